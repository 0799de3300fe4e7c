"""Jobs of the worker are watched by the monotonic clock: a late job is run, and readiness reports it."""

import asyncio
from datetime import UTC, datetime, timedelta

from query_api.worker import timetable
from query_api.worker.timetable import Every, Job, Timetable
from shared.serving.telemetry import Health


class Clocks:
    """A wall clock and a monotonic clock that tests set."""

    def __init__(self) -> None:
        self.wall = self.monotonic = 1000.0

    def pass_by(self, seconds: float) -> None:
        self.wall += seconds
        self.monotonic += seconds


def test_a_clock_that_is_years_ahead_causes_one_run() -> None:
    now = datetime(2046, 1, 1, tzinfo=UTC)
    following = Every(2).get_next_fire_time(datetime(2026, 1, 1, tzinfo=UTC), now)
    assert timedelta(seconds=2) <= following - now <= timedelta(seconds=2 + timetable.JITTER_S)


async def test_a_job_that_does_not_end_is_reported_until_it_does() -> None:
    clocks, health, begun, end = Clocks(), Health("rounds"), asyncio.Event(), asyncio.Event()

    async def duty() -> None:
        begun.set()
        await end.wait()

    rounds = Timetable(
        {"slow": Job(1, duty)}, health, _no_failure, lambda: clocks.monotonic, lambda: clocks.wall
    )  # fmt: skip
    rounds.start()
    await begun.wait()
    clocks.pass_by(timetable.LONGEST_S - 1)
    rounds.look()
    assert health.is_ready
    clocks.pass_by(2)
    rounds.look()
    assert health.report() == {"rounds": "the job 'slow' has been running for 301 s"}
    end.set()
    await rounds.shut_down()
    rounds.look()
    assert "slow" in health.report()["rounds"], "the job has stopped"


async def test_a_job_that_did_not_start_is_reported_and_run() -> None:
    clocks, health, runs = Clocks(), Health("rounds"), asyncio.Queue[None]()
    rounds = Timetable(
        {"hourly": Job(3600, lambda: runs.put(None))}, health, _no_failure,
        lambda: clocks.monotonic, lambda: clocks.wall,
    )  # fmt: skip
    rounds.start()
    await runs.get()
    clocks.pass_by(3600 + timetable.JITTER_S + timetable.GRACE_S + 1)
    rounds.look()
    assert health.report() == {"rounds": "the job 'hourly' is due every 3600 s and ran 3616 s ago"}
    await runs.get()
    rounds.look()
    assert health.is_ready
    await rounds.shut_down()


async def test_a_step_of_the_clock_runs_all_jobs() -> None:
    clocks, runs = Clocks(), asyncio.Queue[None]()
    rounds = Timetable(
        {"hourly": Job(3600, lambda: runs.put(None))}, Health("rounds"), _no_failure,
        lambda: clocks.monotonic, lambda: clocks.wall,
    )  # fmt: skip
    rounds.start()
    await runs.get()
    for step in (-7200, 7200, 60):  # the last as after a minute's suspend
        clocks.wall += step
        rounds.look()
        await runs.get()
    rounds.look()
    await asyncio.sleep(0)
    assert runs.empty()
    await rounds.shut_down()


def _no_failure(error: Exception) -> None:
    raise AssertionError from error
