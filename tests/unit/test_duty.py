"""When the worker seals: a share of the time, and a device when it should have enough readings (ADR 41)."""

from datetime import timedelta

import pytest

from query_api.statistics.blocks.sealing.sealing import Step
from query_api.worker import sealing
from query_api.worker.maintenance import duty
from query_api.worker.maintenance.duty import Duty
from query_api.worker.metrics import WorkerMetrics
from query_api.worker.sealing import Sealing
from shared.readings.model import SECOND, Microseconds
from tests.blocks import SMALL

START = 1_700_000_000 * SECOND


def test_a_device_is_looked_at_when_it_should_have_enough() -> None:
    worker, until = Sealing(WorkerMetrics(), SMALL), START + 1000 * SECOND

    def pause(found: int, sealed: int, since: Microseconds) -> float:
        return worker._pause(sealing.Due(1, since, found), Step(sealed, is_done=True), until).total_seconds()

    assert pause(0, 0, START) == sealing.LATEST_S, "it has sent nothing"
    assert pause(2, 0, START) == sealing.LATEST_S, "two in 1,000 seconds"
    assert pause(3, 0, until - 400 * SECOND) == pytest.approx(400 / 3), "one more of three in 400 seconds"
    assert pause(4, 1000, START) == sealing.SOONEST_S
    assert worker._pause(sealing.Due(1, START, 4), Step(1000, is_done=False), until) == timedelta(), "a round ended"


async def test_a_duty_is_a_share_of_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    monkeypatch.setattr(duty.asyncio, "sleep", sleep)
    times = iter([0.0, 2.0, 8.0, 9.0, 12.0])
    quarter = Duty(0.25, lambda: next(times))
    await quarter.rest()
    await quarter.rest()
    assert slept == [6.0, 3.0]
