"""Tests wait for what they expect, and say what they saw when it does not come."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

DEADLINE_S = 30.0
POLL_S = 0.01
_Seen = TypeVar("_Seen")


async def eventually(
    look: Callable[[], Awaitable[_Seen]], expected: Callable[[_Seen], bool], deadline_s: float = DEADLINE_S
) -> _Seen:
    """What `look` saw once it was as expected. Raises AssertionError with the last sight after the deadline."""
    ends = time.monotonic() + deadline_s
    while True:
        seen = await look()
        if expected(seen):
            return seen
        assert time.monotonic() < ends, f"not within {deadline_s:g} s; last seen: {seen!r}"
        await asyncio.sleep(POLL_S)
