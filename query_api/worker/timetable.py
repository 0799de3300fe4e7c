"""The worker's rounds: APScheduler runs them, and the monotonic clock says whether they are on time.

APScheduler plans by the system's clock. If that is put back, what was planned lies in the future: for as long as the
step, nothing would run. If it is put forward by years, an interval trigger would count each missed run. So:

- `Every` plans from now on, and not from the run before;
- `watch` looks each second whether the system's clock has moved against the monotonic one, which also shows that the
  machine was suspended, and has all rounds run at once;
- it reports a round that has not begun, or not ended, when it should have, and has it run.
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

JITTER_S = 0.5
"""Workers that were started at one moment do not ask at one moment."""
LOOK_S = 1.0
STEP_S = 1.0
"""Of the system's clock: what NTP slews in a second is far less."""
GRACE_S = 15.0
"""A round may begin so much late."""
LONGEST_S = 300.0
"""A round may take so long, or ten times its interval."""
PART = "rounds"
"""Of the health report."""

_log = structlog.get_logger()


class Every(BaseTrigger):  # type: ignore[misc]  # APScheduler has no types
    """Fires this number of seconds after the moment at which it is asked, and up to JITTER_S later."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def get_next_fire_time(self, _: datetime | None, now: datetime) -> datetime:
        """As APScheduler asks."""
        return now + timedelta(seconds=self._seconds + random.uniform(0, JITTER_S))  # noqa: S311  # no secret


class Round(msgspec.Struct, frozen=True):
    """What is done, and how many seconds apart."""

    every_s: float
    duty: Callable[[], Awaitable[None]]


class _Progress:
    """When a round began last, by the monotonic clock, and whether it is running."""

    def __init__(self, now: float) -> None:
        self.began_at = now
        self.is_running = False

    def fault(self, name: str, every_s: float, now: float) -> str | None:
        since = now - self.began_at
        if self.is_running and since > max(LONGEST_S, 10 * every_s):
            return f"the round {name!r} has been running for {since:.0f} s"
        if not self.is_running and since > every_s + JITTER_S + GRACE_S:
            return f"the round {name!r} is due every {every_s:g} s and ran {since:.0f} s ago"
        return None


class Timetable:
    """Runs the rounds from `start` to `shut_down`. `failed` is called with what a round raises."""

    def __init__(
        self, rounds: Mapping[str, Round], health: Health, failed: Callable[[Exception], None],
        monotonic: Callable[[], float] = time.monotonic, wall: Callable[[], float] = time.time,
    ) -> None:  # fmt: skip
        self._rounds = rounds
        self._health = health
        self._failed = failed
        self._monotonic = monotonic
        self._wall = wall
        self._jobs: set[asyncio.Task[None]] = set()
        self._progress = {name: _Progress(monotonic()) for name in rounds}
        self._scheduler = AsyncIOScheduler(
            timezone=UTC, job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": None}
        )

    def start(self) -> None:
        """Begin with all rounds."""
        self._offset = self._wall() - self._monotonic()
        for name, planned in self._rounds.items():
            self._scheduler.add_job(
                self._as_job(name, planned.duty), Every(planned.every_s), id=name, name=name,
                next_run_time=datetime.now(UTC),
            )  # fmt: skip
        self._scheduler.start()
        self._health.ready(PART)

    async def shut_down(self) -> None:
        """Stop the jobs, each of which can be left in the middle; APScheduler's shutdown does not wait."""
        self._scheduler.pause()
        await asyncio.sleep(0)  # what was submitted begins
        for job in self._jobs:
            job.cancel()
        if self._jobs:
            await asyncio.wait(self._jobs)
        self._scheduler.shutdown()

    async def watch(self) -> None:
        """Look each second, without end."""
        while True:
            await asyncio.sleep(LOOK_S)
            self.look()

    def look(self) -> None:
        """Run all rounds if the clock has moved, and those that are overdue; say in the health report which are."""
        offset = self._wall() - self._monotonic()
        moved, self._offset = offset - self._offset, offset
        if abs(moved) > STEP_S:
            _log.warning("the clock was set or the machine was suspended: all jobs run now", moved_s=round(moved, 1))
            self._run_now(self._rounds)
        faults = self._faults()
        if faults:
            self._run_now(faults)
            self._health.not_ready(PART, "; ".join(faults.values()))
        else:
            self._health.ready(PART)

    def _faults(self) -> dict[str, str]:
        now = self._monotonic()
        found = ((name, self._progress[name].fault(name, r.every_s, now)) for name, r in self._rounds.items())
        return {name: fault for name, fault in found if fault is not None}

    def _run_now(self, names: Mapping[str, object]) -> None:
        for name in names:
            self._scheduler.modify_job(name, next_run_time=datetime.now(UTC))

    def _as_job(self, name: str, duty: Callable[[], Awaitable[None]]) -> Callable[[], Awaitable[None]]:
        """Return the duty, noted while it runs. What it raises is passed on: APScheduler would only log it."""
        progress = self._progress[name]

        async def job() -> None:
            task = asyncio.current_task()
            assert task is not None, "a job is a task"
            self._jobs.add(task)
            progress.began_at, progress.is_running = self._monotonic(), True
            try:
                await duty()
            except asyncio.CancelledError:
                _log.debug("stopped in the middle of a job")  # APScheduler takes it for an error
            except Exception as error:  # noqa: BLE001  # the caller's to raise
                self._failed(error)
            finally:
                progress.is_running = False
                self._jobs.discard(task)

        return job
