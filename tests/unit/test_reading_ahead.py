"""Reading ahead: results in order, one read at a time, and none that continues after its caller."""

import asyncio
from collections.abc import Iterator
from contextlib import aclosing
from functools import partial
from typing import Any

import pytest

from query_api.statistics.blocks.reading.curves.ahead import read_ahead


class Reads:
    """Reads that note what happens; each waits until it may end."""

    def __init__(self, count: int) -> None:
        self.happened: list[str] = []
        self.may_end = [asyncio.Event() for _ in range(count)]

    def __iter__(self) -> Iterator[Any]:
        return (partial(self._read, number) for number in range(len(self.may_end)))

    async def _read(self, number: int) -> int:
        self.happened.append(f"begin {number}")
        try:
            await self.may_end[number].wait()
        except asyncio.CancelledError:
            self.happened.append(f"cancel {number}")
            raise
        self.happened.append(f"end {number}")
        return number


@pytest.mark.parametrize("count", [0, 1, 2, 5])
async def test_results_are_in_order_and_one_read_runs_at_a_time(count: int) -> None:
    reads = Reads(count)
    for event in reads.may_end:
        event.set()
    assert [part async for part in read_ahead(reads)] == list(range(count))
    assert reads.happened == [f"{what} {number}" for number in range(count) for what in ("begin", "end")]


async def test_the_next_part_is_read_while_the_caller_has_one() -> None:
    reads = Reads(2)
    reads.may_end[0].set()
    async with aclosing(read_ahead(reads)) as parts:
        assert await anext(parts) == 0
        await asyncio.sleep(0)
        assert reads.happened == ["begin 0", "end 0", "begin 1"]
        reads.may_end[1].set()
        assert await anext(parts) == 1


async def test_a_caller_that_fails_leaves_no_read_running() -> None:
    reads = Reads(3)
    reads.may_end[0].set()

    async def call() -> None:
        async with aclosing(read_ahead(reads)) as parts:
            async for part in parts:
                await asyncio.sleep(0)
                _ = 1 / part

    with pytest.raises(ZeroDivisionError):
        await call()
    assert reads.happened == ["begin 0", "end 0", "begin 1", "cancel 1"]


async def test_a_cancelled_caller_leaves_no_read_running() -> None:
    reads = Reads(2)

    async def call() -> list[int]:
        async with aclosing(read_ahead(reads)) as parts:
            return [part async for part in parts]

    calling = asyncio.create_task(call())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    calling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await calling
    assert reads.happened == ["begin 0", "cancel 0"]


async def test_an_error_of_a_read_is_raised_in_its_place() -> None:
    async def read(number: int) -> float:
        return 1 / number

    parts = read_ahead(partial(read, number) for number in (1, 2, 0, 3))
    assert [await anext(parts), await anext(parts)] == [1.0, 0.5]
    with pytest.raises(ZeroDivisionError):
        await anext(parts)
