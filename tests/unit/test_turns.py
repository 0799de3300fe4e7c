"""Slow work: bounded for each caller and in total, in turns."""

import asyncio
from contextlib import AsyncExitStack

import pytest
from prometheus_client import CollectorRegistry

from query_api.web.answers.problems import Refused
from query_api.web.limits.turns import Bounds, Turns, TurnsMetrics
from tests.waiting import eventually

BOUNDS = Bounds(running=3, each=2, waiting=3, waiting_each=2)


def turns(registry: CollectorRegistry, patience: float = 60) -> Turns:
    return Turns("reads", BOUNDS, patience, TurnsMetrics(registry))


async def waiting(registry: CollectorRegistry, count: int) -> None:
    async def seen() -> float | None:
        return registry.get_sample_value("devicestat_http_slow_waiting", {"work": "reads"})

    await eventually(seen, lambda now: now == count)


class Reader:
    """A request that runs until `end`."""

    def __init__(self, of: Turns, caller: str) -> None:
        self.runs, self.end = asyncio.Event(), asyncio.Event()
        self.task = asyncio.create_task(self._run(of, caller))

    async def _run(self, of: Turns, caller: str) -> None:
        async with of.turn(caller):
            self.runs.set()
            await self.end.wait()

    async def ended(self) -> None:
        self.end.set()
        await self.task


async def test_a_caller_at_its_bound_does_not_delay_another() -> None:
    registry = CollectorRegistry()
    reads = turns(registry)
    greedy = [Reader(reads, "greedy") for _ in range(4)]
    await waiting(registry, 2)
    assert [reader.runs.is_set() for reader in greedy] == [True, True, False, False]
    with pytest.raises(Refused) as refused:
        await AsyncExitStack().enter_async_context(reads.turn("greedy"))
    assert (refused.value.problem.status, refused.value.headers) == (429, {"Retry-After": "2"})
    assert "2 reads of this key or address are running, of at most 2, and 2 are waiting: " in refused.value.detail
    quiet = Reader(reads, "quiet")
    await quiet.runs.wait()
    for reader in [*greedy, quiet]:
        await reader.ended()
    labels = {"work": "reads", "bound": "caller"}
    assert registry.get_sample_value("devicestat_http_slow_refused_total", labels) == 1
    assert registry.get_sample_value("devicestat_http_slow_running", {"work": "reads"}) == 0


async def test_the_total_is_bounded_and_the_caller_with_the_fewest_running_is_next() -> None:
    registry = CollectorRegistry()
    reads = turns(registry)
    a = [Reader(reads, "a") for _ in range(2)]
    b = Reader(reads, "b")
    await b.runs.wait()
    again, other, third = Reader(reads, "b"), Reader(reads, "c"), Reader(reads, "d")
    await waiting(registry, 3)
    with pytest.raises(Refused) as refused:
        await AsyncExitStack().enter_async_context(reads.turn("e"))
    assert refused.value.problem.status == 503
    await a[0].ended()
    await other.runs.wait()
    assert not again.runs.is_set()  # b runs one already
    for reader in (a[1], b, other, again, third):
        await reader.ended()


async def test_a_request_that_waits_too_long_is_refused_and_removed() -> None:
    registry = CollectorRegistry()
    reads = turns(registry, patience=0.01)
    a = [Reader(reads, "a") for _ in range(2)]
    await a[1].runs.wait()
    with pytest.raises(Refused) as refused:
        await AsyncExitStack().enter_async_context(reads.turn("a"))
    assert refused.value.problem.status == 429
    assert "and 0 are waiting" in refused.value.detail
    cancelled = Reader(reads, "a")
    await waiting(registry, 1)
    cancelled.task.cancel()
    await waiting(registry, 0)
    for reader in a:
        await reader.ended()
    async with reads.turn("a"), reads.turn("a"), reads.turn("b"):
        assert registry.get_sample_value("devicestat_http_slow_running", {"work": "reads"}) == 3


async def test_a_place_granted_to_a_cancelled_request_passes_to_the_next() -> None:
    registry = CollectorRegistry()
    reads = turns(registry)
    a = [Reader(reads, "a") for _ in range(2)]
    async with reads.turn("b") as place:
        gone = Reader(reads, "c")
        await waiting(registry, 1)
        after = Reader(reads, "d")
        await waiting(registry, 2)
        gone.task.cancel()
        place.free()  # before the cancelled task has run
    await after.runs.wait()
    with pytest.raises(asyncio.CancelledError):
        await gone.task
    for reader in (*a, after):
        await reader.ended()
    async with reads.turn("c"), reads.turn("d"), reads.turn("c"):
        assert registry.get_sample_value("devicestat_http_slow_running", {"work": "reads"}) == 3
    assert registry.get_sample_value("devicestat_http_slow_waiting", {"work": "reads"}) == 0


async def test_a_place_may_be_freed_early() -> None:
    reads = turns(CollectorRegistry())
    async with reads.turn("a") as place, reads.turn("a"):
        place.free()
        async with reads.turn("a"):
            pass
