"""Computation in a thread, where it would delay the other requests of the process."""

import asyncio
from collections.abc import Callable
from typing import TypeVar

LARGE = 50_000
"""Values that take some milliseconds to sort and to add up. A thread for fewer takes longer than it saves."""
OF_AN_ITEM = 500
"""Values that take as long as the objects of one item."""

T = TypeVar("T")


async def computed(values: int, compute: Callable[[], T]) -> T:
    """Return what `compute` returns. From LARGE values on it runs in a thread, which releases the event loop.

    If the caller is cancelled, the thread continues to the end of `compute`, and its result is dropped.
    """
    if values < LARGE:
        return compute()
    return await asyncio.to_thread(compute)
