"""The queue of readings: callers take turns, and no caller can fill it."""

import asyncio

import pytest
from prometheus_client import CollectorRegistry

from query_api.readings.waiting import FairQueue, Waiting
from query_api.web.answers.problems import Refused
from shared.readings.model import Reading


def request(count: int) -> Waiting:
    return Waiting([Reading(1, 0, 0, 0, 0, 0)] * count, asyncio.get_running_loop().create_future())


async def test_callers_take_turns() -> None:
    queue = FairQueue(CollectorRegistry())
    greedy, quiet = [request(1) for _ in range(3)], request(1)
    for one in greedy:
        queue.put("greedy", one)
    queue.put("quiet", quiet)
    assert [queue.take() for _ in range(4)] == [greedy[0], quiet, greedy[1], greedy[2]]
    assert (len(queue), queue.is_empty) == (0, True)
    with pytest.raises(IndexError):
        queue.take()


async def test_a_caller_above_its_bound_is_refused_and_others_are_not() -> None:
    registry = CollectorRegistry()
    queue = FairQueue(registry, most=100, most_each=10)
    queue.put("greedy", request(12))  # one request of any size
    with pytest.raises(Refused) as refused:
        queue.put("greedy", request(1))
    assert (refused.value.problem.status, refused.value.headers) == (429, {"Retry-After": "5"})
    assert "12 readings" in refused.value.detail
    queue.put("quiet", request(1))
    assert registry.get_sample_value("devicestat_http_readings_waiting") == 13
    assert registry.get_sample_value("devicestat_http_readings_refused_total", {"bound": "caller"}) == 1


async def test_many_callers_do_not_exclude_a_caller_without_waiting_readings() -> None:
    queue = FairQueue(CollectorRegistry(), most=20, most_each=10)
    for number in range(3):
        queue.put(f"greedy {number}", request(8))
    with pytest.raises(Refused) as refused:
        queue.put("greedy 0", request(1))
    assert refused.value.problem.status == 503
    queue.put("quiet", request(1))
    for number in range(2):
        queue.put(f"another {number}", request(8))
    with pytest.raises(Refused) as refused:
        queue.put("the last", request(1))
    assert refused.value.problem.status == 503


async def test_next_waits_for_a_request() -> None:
    queue = FairQueue(CollectorRegistry())
    waiting = asyncio.create_task(queue.next())
    await asyncio.sleep(0)
    one = request(1)
    queue.put("a", one)
    assert await waiting is one
