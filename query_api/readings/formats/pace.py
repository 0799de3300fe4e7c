"""How slowly the reader of a stream may take it."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager

STANDSTILL_S = 60.0
"""A stream whose reader takes nothing for so long is ended,"""
SLOWEST = 16 * 1024
"""and one whose reader falls so far behind so many bytes a second: else a few who read a little now and then would keep
all others out for as long as they like."""


class Pace:
    """The time that a reader has for what is sent next. It is not saved up: `left_s` is STANDSTILL_S at the most."""

    def __init__(self) -> None:
        self.left_s = STANDSTILL_S
        """Seconds."""

    def taken(self, size: int, took_s: float) -> None:
        """So many bytes were taken in so many seconds."""
        self.left_s = min(STANDSTILL_S, self.left_s - took_s + size / SLOWEST)


@contextmanager
def paced(pace: Pace, size: int, give_up: Callable[[], None]) -> Iterator[None]:
    """While a block of `size` bytes is being sent: `give_up` is called if its reader is too slow."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    timer = loop.call_later(pace.left_s, give_up)
    try:
        yield
    finally:
        timer.cancel()
        pace.taken(size, loop.time() - began)
