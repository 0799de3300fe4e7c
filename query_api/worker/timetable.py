"""Periodic jobs of the worker: APScheduler runs them, and a watch by the monotonic clock detects late ones.

APScheduler schedules by the system clock. If the clock is set back, the next run is that far in the future, and nothing
runs until then. If it is set forward by years, an interval trigger counts each missed run. So:

- `Every` schedules the next run from the current time, not from the previous run.
- `watch` compares the system clock with the monotonic clock each second. After a step of the clock, or a suspension of
  the machine, it runs all jobs immediately.
- `watch` reports a job that has not started or ended in time, and runs it.
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime, timedelta

import msgspec
import structlog
from apscheduler.schedulers.asyncio import AsyncIOScheduler
from apscheduler.triggers.base import BaseTrigger

from shared.serving.telemetry import Health
from shared.status.figures import Round

JITTER_S = 0.5
"""Longest random delay of a run, so that workers started together do not query together."""
LOOK_S = 1.0
"""Interval of the watch."""
STEP_S = 1.0
"""Change of the system clock that counts as a step. NTP slews far less in a second."""
GRACE_S = 15.0
"""Delay after which a job that has not started counts as late."""
LONGEST_S = 300.0
"""Longest duration of a job, unless ten times its interval is longer."""
PART = "rounds"
"""Name of the jobs in the health report."""

_log = structlog.get_logger()


class Every(BaseTrigger):  # type: ignore[misc]  # APScheduler has no types
    """Trigger that fires a number of seconds from now, delayed by a random part of the jitter."""

    def __init__(self, seconds: float, jitter_s: float = JITTER_S) -> None:
        self._seconds = seconds
        self._jitter_s = jitter_s

    def get_next_fire_time(self, _: datetime | None, now: datetime) -> datetime:
        """Return the time of the next run. APScheduler calls it."""
        return now + timedelta(seconds=self._seconds + random.uniform(0, self._jitter_s))  # noqa: S311  # no secret


class Job(msgspec.Struct, frozen=True):
    """A periodic job: its interval, and its function."""

    every_s: float
    duty: Callable[[], Awaitable[None]]


class _Progress:
    """Start of the latest run by the monotonic clock, and whether the job is running."""

    def __init__(self, now: float) -> None:
        self.began_at = now
        self.is_running = False
        self.has_begun = False

    def fault(self, name: str, every_s: float, now: float) -> str | None:
        since = now - self.began_at
        if self.is_running and since > max(LONGEST_S, 10 * every_s):
            return f"the job {name!r} has been running for {since:.0f} s"
        if not self.is_running and since > every_s + JITTER_S + GRACE_S:
            return f"the job {name!r} is due every {every_s:g} s and ran {since:.0f} s ago"
        return None


class Timetable:
    """Runs the jobs from `start` to `shut_down`. `failed` is called with the exception of a job."""

    def __init__(
        self, jobs: Mapping[str, Job], health: Health, failed: Callable[[Exception], None],
        monotonic: Callable[[], float] = time.monotonic, wall: Callable[[], float] = time.time,
        jitter_s: float = JITTER_S,
    ) -> None:  # fmt: skip
        self._jobs = jobs
        self._health = health
        self._failed = failed
        self._monotonic = monotonic
        self._wall = wall
        self._jitter_s = jitter_s
        self._running: set[asyncio.Task[None]] = set()
        self._progress = {name: _Progress(monotonic()) for name in jobs}
        self._scheduler = AsyncIOScheduler(
            timezone=UTC, job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": None}
        )

    def start(self) -> None:
        """Start all jobs."""
        self._offset = self._wall() - self._monotonic()
        for name, planned in self._jobs.items():
            self._scheduler.add_job(
                self._as_job(name, planned.duty), Every(planned.every_s, self._jitter_s), id=name, name=name,
                next_run_time=datetime.now(UTC),
            )  # fmt: skip
        self._scheduler.start()
        self._health.ready(PART)

    async def shut_down(self) -> None:
        """Cancel the jobs and wait for them, as APScheduler's shutdown does not wait."""
        self._scheduler.pause()
        await asyncio.sleep(0)  # so that submitted jobs start
        for job in self._running:
            job.cancel()
        if self._running:
            await asyncio.wait(self._running)
        self._scheduler.shutdown()

    async def watch(self) -> None:
        """Check the jobs every LOOK_S until cancelled."""
        while True:
            await asyncio.sleep(LOOK_S)
            self.look()

    def look(self) -> None:
        """Run all jobs after a step of the clock, and late jobs. Report late jobs in the health report."""
        offset = self._wall() - self._monotonic()
        moved, self._offset = offset - self._offset, offset
        if abs(moved) > STEP_S:
            _log.warning("the clock was set or the machine was suspended: all jobs run now", moved_s=round(moved, 1))
            self._run_now(self._jobs)
        faults = self._faults()
        if faults:
            self._run_now(faults)
            self._health.not_ready(PART, "; ".join(faults.values()))
        else:
            self._health.ready(PART)

    def rounds(self) -> list[Round]:
        """Return the state of each job."""
        now = self._monotonic()
        return [_round(name, planned, self._progress[name], now) for name, planned in self._jobs.items()]

    def _faults(self) -> dict[str, str]:
        now = self._monotonic()
        found = ((name, self._progress[name].fault(name, r.every_s, now)) for name, r in self._jobs.items())
        return {name: fault for name, fault in found if fault is not None}

    def _run_now(self, names: Mapping[str, object]) -> None:
        for name in names:
            self._scheduler.modify_job(name, next_run_time=datetime.now(UTC))

    def _as_job(self, name: str, duty: Callable[[], Awaitable[None]]) -> Callable[[], Awaitable[None]]:
        """Return the duty as a job that records its progress. It reports exceptions, which APScheduler only logs."""
        progress = self._progress[name]

        async def job() -> None:
            task = asyncio.current_task()
            assert task is not None, "a job is a task"
            self._running.add(task)
            progress.began_at, progress.is_running, progress.has_begun = self._monotonic(), True, True
            try:
                await duty()
            except asyncio.CancelledError:
                _log.debug("a job was cancelled")  # APScheduler would log it as an error
            except Exception as error:  # noqa: BLE001  # `failed` reports it
                self._failed(error)
            finally:
                progress.is_running = False
                self._running.discard(task)

        return job


def _round(name: str, planned: Job, progress: _Progress, now: float) -> Round:
    return Round(
        name=name,
        every_s=planned.every_s,
        is_running=progress.is_running,
        began_s=now - progress.began_at if progress.has_begun else None,
        fault=progress.fault(name, planned.every_s, now),
    )
