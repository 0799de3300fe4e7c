"""Waiting for an expected state, with the last state in the error."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

HANG_S = 180.0
"""Time after which a wait counts as a hang. It limits the run time of a failing test, and asserts nothing about speed.
Tests assert events, or times of the product's own clock, so they pass on a busy machine."""
POLL_S = 0.01
_Seen = TypeVar("_Seen")


async def eventually(
    look: Callable[[], Awaitable[_Seen]], expected: Callable[[_Seen], bool], deadline_s: float = HANG_S
) -> _Seen:
    """Call `look` until its result is as expected; return it. Raises AssertionError at the deadline."""
    ends = time.monotonic() + deadline_s
    while True:
        seen = await look()
        if expected(seen):
            return seen
        assert time.monotonic() < ends, f"not within {deadline_s:g} s; last seen: {seen!r}"
        await asyncio.sleep(POLL_S)
