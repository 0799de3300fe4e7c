"""The round that settles late readings: it moves them into blocks (ADR 41)."""

import time
from collections.abc import Sequence
from datetime import timedelta

import msgspec
import structlog

from query_api.statistics.blocks.layout import STANDARD, Layout
from query_api.statistics.blocks.sealing.merging import merge
from query_api.statistics.blocks.sealing.settling import settle
from query_api.statistics.blocks.tables import WrongBlock
from query_api.worker.maintenance.duty import CONTENTION, Duty, alone
from query_api.worker.maintenance.scrub import check
from query_api.worker.metrics import WorkerMetrics
from shared.postgres.connections import Connection

ROUND_S = 60.0
"""A round ends after this time. The next one continues."""
SETTLE_AT = 4_000
"""Late readings of one device that are settled at once; fewer are settled after SETTLE_AFTER."""
SETTLE_AFTER = timedelta(hours=1)

_log = structlog.get_logger()


class Late(msgspec.Struct, frozen=True):
    """A device with late readings. `is_old`: it has had some for SETTLE_AFTER."""

    device_id: int
    readings: int
    is_old: bool

    @property
    def is_due(self) -> bool:
        """Whether they are many, or old."""
        return self.is_old or self.readings >= SETTLE_AT


class Settling:
    """Settles. `layout`: tests use a small one."""

    def __init__(self, metrics: WorkerMetrics, layout: Layout = STANDARD) -> None:
        self._metrics = metrics
        self._layout = layout

    async def settle(self, connection: Connection) -> None:
        """Settle the devices that have many late readings, or have some for long, if no other worker does so."""
        ends_at, duty = time.monotonic() + ROUND_S, Duty()
        async with alone(connection, "settling round") as is_alone:
            if not is_alone:
                self._metrics.late.set(0)  # another worker reports them
                return
            late = await _late(connection)
            self._metrics.late.set(sum(one.readings for one in late))
            for one in late:
                if one.is_due and time.monotonic() < ends_at:
                    await self._settle_one(connection, one.device_id, duty, ends_at)

    async def _settle_one(self, connection: Connection, device_id: int, duty: Duty, ends_at: float) -> None:
        try:
            while time.monotonic() < ends_at:
                settled = await settle(connection, device_id, self._layout)
                if not settled:
                    await connection.execute(_NONE_LATE, (device_id,))
                    await merge(connection, device_id, self._layout)
                    return
                self._metrics.settled.inc(settled)
                await duty.rest()
        except CONTENTION as error:
            _log.info("settling of a device was put off", device_id=device_id, reason=str(error).strip())
        except WrongBlock as error:
            await check(connection, error.key, self._metrics, self._layout)


# late_since is in the table so that it survives a restart of the worker. A later time than now was set by a clock that
# has been set back.
_LATE = """
    WITH late AS (
        SELECT device_id, count(*) AS readings FROM late_readings JOIN sealed_devices USING (device_id)
        WHERE recorded_at < sealed GROUP BY device_id
    ), noted AS (
        UPDATE sealed_devices AS known SET late_since = now() FROM late
        WHERE known.device_id = late.device_id AND (known.late_since IS NULL OR known.late_since > now())
    )
    SELECT device_id, readings, coalesce(late_since, now()) <= now() - %s
    FROM late JOIN sealed_devices USING (device_id) ORDER BY late_since, device_id
"""
_NONE_LATE = "UPDATE sealed_devices SET late_since = NULL WHERE device_id = %s"


async def _late(connection: Connection) -> Sequence[Late]:
    """Return the devices with late readings, and note since when they have some."""
    return [Late(*row) for row in await (await connection.execute(_LATE, (SETTLE_AFTER,))).fetchall()]
