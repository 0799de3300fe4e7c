"""The round that seals readings into blocks (ADR 41).

One worker at a time does so, for a quarter of the time at most. A device is looked at when it should have enough
readings for a block, by the rate of its last ones. Readings are sealed some minutes after their time: those that are
stored later are late, and cost more.
"""

import time
from collections.abc import Sequence
from datetime import timedelta

import msgspec
import structlog

from query_api.statistics.blocks.layout import MINI, STANDARD, Layout
from query_api.statistics.blocks.sealing.announcing import announce, wait_for_writers
from query_api.statistics.blocks.sealing.merging import merge
from query_api.statistics.blocks.sealing.sealing import Step, seal_step
from query_api.statistics.blocks.tables import WrongBlock
from query_api.worker.maintenance.duty import CONTENTION, Duty, alone
from query_api.worker.maintenance.scrub import check
from query_api.worker.metrics import WorkerMetrics
from shared.postgres import arrays
from shared.postgres.arrays import EARLIEST, Moment
from shared.postgres.connections import Connection
from shared.readings.model import SECOND, Microseconds

MARGIN = timedelta(minutes=5)
"""The age at which readings are sealed."""
LOOK_AT_ONCE = 200
"""Devices that one statement looks at, and that are announced together."""
ROUND_S = 60.0
"""A round ends after this time. The next one continues."""
SOONEST_S, LATEST_S = 60.0, 900.0
"""Seconds until a device is looked at again."""
ENROL_S = 60.0
"""Seconds between two searches for new devices, which read the keys of all devices."""
ENROLLED_AT_ONCE = 10_000

_log = structlog.get_logger()


class Due(msgspec.Struct, frozen=True):
    """A device to look at. `found`: its unsealed readings before the margin, counted up to those of a mini block."""

    device_id: int
    sealed: Microseconds
    found: int


class Sealing:
    """Seals. `layout`, `margin`: tests use small ones."""

    def __init__(self, metrics: WorkerMetrics, layout: Layout = STANDARD, margin: timedelta = MARGIN) -> None:
        self._metrics = metrics
        self._layout = layout
        self._margin = margin // timedelta(microseconds=1)
        self._enrols_at = time.monotonic()

    async def seal(self, connection: Connection) -> None:
        """Seal what is due, in a round of about ROUND_S at most, if no other worker does so."""
        ends_at, duty = time.monotonic() + ROUND_S, Duty()
        async with alone(connection, "sealing round") as is_alone:
            if not is_alone:
                self._metrics.sealing_lag.set(0)  # another worker reports it
            while is_alone and time.monotonic() < ends_at:
                await self._survey(connection)
                due, until = await self._due(connection)
                if not due:
                    return
                await self._seal_all(connection, due, until, duty, ends_at)

    async def _survey(self, connection: Connection) -> None:
        """Enrol new devices, every ENROL_S; immediately if there may be more."""
        now = time.monotonic()
        if now < self._enrols_at:
            return
        enrolled = (await connection.execute(_ENROL, (ENROLLED_AT_ONCE,))).rowcount
        await connection.execute(_LOOK_SOONER, {"longest": timedelta(seconds=LATEST_S)})
        if enrolled < ENROLLED_AT_ONCE:
            self._enrols_at = now + ENROL_S

    async def _due(self, connection: Connection) -> tuple[Sequence[Due], Microseconds]:
        until = time.time_ns() // 1000 - self._margin
        async with arrays.cursor(connection) as cursor:
            parameters = {"until": Moment(until), "enough": self._enough, "limit": LOOK_AT_ONCE}
            await cursor.execute(_DUE, parameters, prepare=False)
            rows = await cursor.fetchall()
        self._metrics.sealing_lag.set(max((lag for *_, lag in rows), default=0.0))
        return [Due(device_id, sealed, found) for device_id, sealed, found, _ in rows], until

    @property
    def _enough(self) -> int:
        return self._layout.targets[MINI]

    async def _seal_all(
        self, connection: Connection, due: Sequence[Due], until: Microseconds, duty: Duty, ends_at: float
    ) -> None:
        """`ends_at`: the devices that are left then stay due."""
        ready = [one.device_id for one in due if one.found >= self._enough]
        if ready:
            await announce(connection, dict.fromkeys(ready, until))
            self._metrics.fence_wait_seconds.inc(await wait_for_writers(connection))
        for one in due:
            if time.monotonic() >= ends_at:
                return
            found = Step(0, is_done=True)
            if one.found >= self._enough:
                try:
                    found = await self._seal_one(connection, one.device_id, until, duty, ends_at)
                except CONTENTION as error:
                    _log.info("sealing of a device was put off", device_id=one.device_id, reason=str(error).strip())
                except WrongBlock as error:
                    await check(connection, error.key, self._metrics, self._layout)
            await connection.execute(_LOOK_AGAIN, (self._pause(one, found, until), one.device_id))

    async def _seal_one(
        self, connection: Connection, device_id: int, until: Microseconds, duty: Duty, ends_at: float
    ) -> Step:
        """Seal the device, and return what was sealed in all. It may not be done at the end of the round."""
        sealed = 0
        while True:
            step = await seal_step(connection, device_id, until, self._layout)
            await merge(connection, device_id, self._layout)
            self._metrics.sealed.inc(step.readings)
            sealed += step.readings
            await duty.rest()
            if step.is_done or time.monotonic() >= ends_at:
                return Step(sealed, step.is_done)

    def _pause(self, one: Due, found: Step, until: Microseconds) -> timedelta:
        """Return the time until the device should have enough readings again."""
        if not found.is_done:
            return timedelta()
        sealed = found.readings
        count = sealed or one.found
        if count == 0 or one.sealed == EARLIEST:
            return timedelta(seconds=LATEST_S if count == 0 else SOONEST_S)
        missing = self._enough if sealed else self._enough - one.found
        seconds = missing * (until - one.sealed) / SECOND / count
        return timedelta(seconds=min(LATEST_S, max(SOONEST_S, seconds)))


# The lock: a device that is deleted meanwhile is not enrolled after its blocks were removed.
_ENROL = """
    INSERT INTO sealed_devices (device_id)
    SELECT id FROM devices WHERE NOT EXISTS (SELECT FROM sealed_devices WHERE device_id = devices.id)
    LIMIT %s FOR KEY SHARE SKIP LOCKED
    ON CONFLICT DO NOTHING
"""
# The clock has been set back since the time was set.
_LOOK_SOONER = "UPDATE sealed_devices SET look_at = now() + %(longest)s WHERE look_at > now() + 2 * %(longest)s"
# The extent bounds the months that are looked into (ADR 28).
_DUE = """
    SELECT due.device_id, due.sealed, counted.found, due.lag
    FROM (
        SELECT device_id, sealed, extract(epoch FROM now() - look_at)::float8 AS lag,
               greatest(sealed, coalesce((SELECT starts_at FROM device_extents AS extent
                                          WHERE extent.device_id = known.device_id), '-infinity')) AS starts
        FROM sealed_devices AS known WHERE look_at <= now() ORDER BY look_at LIMIT %(limit)s
    ) AS due
    CROSS JOIN LATERAL (
        SELECT count(*)::integer AS found FROM (
            SELECT FROM readings
            WHERE device_id = due.device_id AND recorded_at >= due.starts AND recorded_at < %(until)s
            LIMIT %(enough)s
        ) AS few
    ) AS counted
    ORDER BY due.lag DESC
"""
_LOOK_AGAIN = "UPDATE sealed_devices SET look_at = now() + %s WHERE device_id = %s"
