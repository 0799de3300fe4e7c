"""The queue of readings: callers take turns, and no caller can fill it."""

import asyncio

import pytest
from prometheus_client import CollectorRegistry

from query_api.readings.waiting import LONGEST_RETRY_AFTER_S, FairQueue, Waiting, WaitingBounds
from query_api.web.answers.problems import Refused
from shared.readings.model import Reading
from shared.readings.rows import Rows


def request(caller: str, count: int = 1) -> Waiting:
    rows = Rows.of([Reading(1, 0, 0, 0, 0, 0)] * count)
    return Waiting(caller, rows, asyncio.get_running_loop().create_future())


def refusal(queue: FairQueue, waiting: Waiting) -> Refused:
    with pytest.raises(Refused) as refused:
        queue.put(waiting)
    return refused.value


async def test_callers_take_turns() -> None:
    queue = FairQueue(CollectorRegistry())
    greedy, quiet = [request("greedy") for _ in range(3)], request("quiet")
    for one in (*greedy, quiet):
        queue.put(one)
    assert [queue.take() for _ in range(4)] == [greedy[0], quiet, greedy[1], greedy[2]]
    assert (len(queue), queue.is_empty) == (0, True)
    with pytest.raises(IndexError):
        queue.take()


async def test_a_caller_above_its_bound_is_refused_and_others_are_not() -> None:
    registry = CollectorRegistry()
    queue = FairQueue(registry, WaitingBounds(most=100, most_each=10))
    queue.put(request("greedy", 12))  # one request of any size
    refused = refusal(queue, request("greedy"))
    assert (refused.problem.status, refused.headers) == (429, {"Retry-After": "1"})
    assert "12 readings" in refused.detail
    queue.put(request("quiet"))
    assert registry.get_sample_value("devicestat_http_readings_waiting") == 13
    assert registry.get_sample_value("devicestat_http_readings_refused_total", {"bound": "caller"}) == 1


async def test_many_callers_do_not_exclude_a_caller_without_waiting_readings() -> None:
    queue = FairQueue(CollectorRegistry(), WaitingBounds(most=20, most_each=10))
    for number in range(3):
        queue.put(request(f"greedy {number}", 8))
    assert refusal(queue, request("greedy 0")).problem.status == 503
    queue.put(request("quiet"))
    for number in range(2):
        queue.put(request(f"another {number}", 8))
    assert refusal(queue, request("the last")).problem.status == 503


async def test_a_request_that_would_wait_too_long_is_told_when_to_return() -> None:
    queue = FairQueue(CollectorRegistry(), WaitingBounds(longest_wait_s=2))
    for _ in range(100):
        queue.measured(5_000, per_s=1_000.0)
    queue.measured(1, per_s=1e9)  # of so few readings nothing follows
    queue.put(request("tool", 1_500))
    refused = refusal(queue, request("tool", 1_500))
    assert (refused.problem.status, refused.headers) == (503, {"Retry-After": "1"})
    for number in range(9):
        queue.put(request(f"another {number}", 1_000))  # without waiting readings
    assert refusal(queue, request("tool", 1_500)).headers == {"Retry-After": "6"}
    queue.put(request("one more", 90_000))
    assert refusal(queue, request("tool", 1_500)).headers == {"Retry-After": str(LONGEST_RETRY_AFTER_S)}


async def test_a_request_is_removed_once_and_only_until_it_is_taken() -> None:
    queue = FairQueue(CollectorRegistry())
    first, second, other = request("a"), request("a"), request("b")
    for one in (first, second, other):
        queue.put(one)
    assert [queue.remove(first), queue.remove(first)] == [True, False]
    assert [queue.take() for _ in range(2)] == [second, other]
    assert (queue.remove(second), len(queue), queue.is_empty) == (False, 0, True)


async def test_next_waits_for_a_request() -> None:
    queue = FairQueue(CollectorRegistry())
    waiting = asyncio.create_task(queue.next())
    await asyncio.sleep(0)
    one = request("a")
    queue.put(one)
    assert await waiting is one
