"""Tests wait for what they expect, and say what they saw when it does not come."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

HANG_S = 180.0
"""After so long a wait counts as a hang. It bounds how long a failing test runs, and states nothing about speed: what a
test asserts is counted in events, or in the product's own clock, so that it holds on a busy machine as well."""
POLL_S = 0.01
_Seen = TypeVar("_Seen")


async def eventually(
    look: Callable[[], Awaitable[_Seen]], expected: Callable[[_Seen], bool], deadline_s: float = HANG_S
) -> _Seen:
    """What `look` saw once it was as expected. Raises AssertionError with the last sight after the deadline."""
    ends = time.monotonic() + deadline_s
    while True:
        seen = await look()
        if expected(seen):
            return seen
        assert time.monotonic() < ends, f"not within {deadline_s:g} s; last seen: {seen!r}"
        await asyncio.sleep(POLL_S)
