"""When the worker seals: a share of the time, and a device when it should have enough readings (ADR 41)."""

import psycopg
import pytest
from psycopg.errors import AdminShutdown, DataCorrupted, DiskFull, QueryCanceled, ReadOnlySqlTransaction

from query_api.statistics.blocks.sealing.sealing import Step
from query_api.worker import sealing
from query_api.worker.maintenance import duty
from query_api.worker.maintenance.duty import Duty, note_failure
from query_api.worker.metrics import WorkerMetrics
from query_api.worker.sealing import Due, Sealing
from tests.blocks import SMALL


def test_a_device_is_looked_at_when_it_should_have_enough() -> None:
    worker = Sealing(WorkerMetrics(), SMALL)

    def pause(found: int, sealed: int, seconds: float, *, is_done: bool = True) -> float:
        return worker._pause(Due(1, found, None, seconds), Step(sealed, is_done)).total_seconds()

    assert pause(0, 0, 1000) == sealing.LATEST_S, "it has sent nothing"
    assert pause(2, 0, 1000) == sealing.LATEST_S, "two in 1,000 seconds"
    assert pause(3, 0, 400) == pytest.approx(400 / 3), "one more of three in 400 seconds"
    assert pause(4, 1000, 1000) == sealing.SOONEST_S
    assert pause(4, 1000, 1000, is_done=False) == 0, "a round ended"


async def test_a_duty_is_a_share_of_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    monkeypatch.setattr(duty.asyncio, "sleep", sleep)
    times = iter([0.0, 2.0, 8.0, 9.0, 12.0, 100.0, 160.0])
    quarter = Duty(0.25, lambda: next(times))
    for _ in range(3):
        await quarter.rest()
    assert slept == [6.0, 3.0, duty.LONGEST_REST_S], "a round ends although the database was slow"


@pytest.mark.parametrize("error", [AssertionError(), MemoryError(), DataCorrupted(), QueryCanceled()])
def test_the_failure_of_a_device_is_counted(error: Exception) -> None:
    metrics = WorkerMetrics()
    note_failure(error, "sealing", 1, metrics)
    assert metrics.registry.get_sample_value("devicestat_worker_sealing_failures_total") == 1


@pytest.mark.parametrize("error", [AdminShutdown(), psycopg.OperationalError(), DiskFull(), ReadOnlySqlTransaction()])
def test_a_failure_of_all_devices_ends_the_round(error: Exception) -> None:
    metrics = WorkerMetrics()
    with pytest.raises(type(error)):
        note_failure(error, "sealing", 1, metrics)
    assert metrics.registry.get_sample_value("devicestat_worker_sealing_failures_total") == 0
