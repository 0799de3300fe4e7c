"""Large computations run in a thread."""

import asyncio
import threading

import pytest

from query_api.statistics.blocks.computing import LARGE, computed
from tests.waiting import HANG_S


async def test_a_large_computation_does_not_hold_the_event_loop() -> None:
    loop, done = asyncio.get_running_loop(), threading.Event()

    def compute() -> bool:
        loop.call_soon_threadsafe(done.set)
        return done.wait(HANG_S)

    assert await computed(LARGE, compute), "the loop has run meanwhile"


async def test_a_small_one_takes_no_thread() -> None:
    assert await computed(LARGE - 1, threading.get_ident) == threading.get_ident()


async def test_its_error_is_the_callers() -> None:
    for values in (0, LARGE):
        with pytest.raises(ZeroDivisionError):
            await computed(values, lambda: 1 // 0)
