"""The round that settles late readings: it moves them into blocks (ADR 41)."""

import time
from collections.abc import Sequence
from datetime import timedelta
from functools import partial

import msgspec
import structlog

from query_api.statistics.blocks.layout import STANDARD, Layout
from query_api.statistics.blocks.sealing.merging import merge_next
from query_api.statistics.blocks.sealing.settling import settle
from query_api.worker.maintenance.duty import CONTENTION, SHARE, Duty, alone, note_failure
from query_api.worker.maintenance.scrub import mending
from query_api.worker.metrics import WorkerMetrics
from shared.postgres.connections import Connection
from shared.postgres.distribution import is_distributed

ROUND_S = 60.0
"""A round ends after this time. The next one continues."""
SETTLE_AT = 4_000
"""Late readings of one device that are settled at once; fewer are settled after SETTLE_AFTER."""
SETTLE_AFTER = timedelta(hours=1)
RETRY_S = 900.0
"""Seconds until a device is tried again whose settlement has failed."""

_log = structlog.get_logger()


class Late(msgspec.Struct, frozen=True):
    """A device with late readings, or whose settlement did not end. `is_old`: it has had some for long."""

    device_id: int
    readings: int
    is_old: bool

    def is_due(self, many: int) -> bool:
        """Whether they are many, or old, or only blocks are left to be merged."""
        return self.is_old or self.readings >= many or self.readings == 0


class Settling:
    """Settles. Tests use a small `layout`, short times and all of the time: `share` 1."""

    def __init__(
        self,
        metrics: WorkerMetrics,
        layout: Layout = STANDARD,
        *,
        settle_at: int = SETTLE_AT,
        settle_after: timedelta = SETTLE_AFTER,
        share: float = SHARE,
        round_s: float = ROUND_S,
    ) -> None:
        self._metrics = metrics
        self._layout = layout
        self._settle_at = settle_at
        self._settle_after = settle_after
        self._share = share
        self._round_s = round_s
        self._retry_at: dict[int, float] = {}  # of devices whose settlement has failed, by the monotonic clock

    async def settle(self, connection: Connection) -> None:
        """Settle the devices that have many late readings, or have some for long, if no other worker does so."""
        ends_at, duty = time.monotonic() + self._round_s, Duty(self._share)
        async with alone(connection, "settling round") as is_alone:
            if not is_alone:
                self._metrics.late.set(0)  # another worker reports them
                return
            late = await _late(connection, self._settle_after)
            self._metrics.late.set(sum(one.readings for one in late))
            self._retry_at = {device: at for device, at in self._retry_at.items() if at > time.monotonic()}
            for one in late:
                if one.is_due(self._settle_at) and one.device_id not in self._retry_at and time.monotonic() < ends_at:
                    await self._try_to_settle(connection, one.device_id, duty, ends_at)

    async def _try_to_settle(self, connection: Connection, device_id: int, duty: Duty, ends_at: float) -> None:
        """Settle the device. If it fails, other devices follow."""
        try:
            act = partial(self._settle_one, connection, device_id, duty, ends_at)
            await mending(act, connection, self._metrics, self._layout, duty)
        except CONTENTION as error:
            _log.info("settling of a device was put off", device_id=device_id, reason=str(error).strip())
        except Exception as error:  # noqa: BLE001  # it is logged and counted
            note_failure(error, "settling", device_id, self._metrics)
            self._retry_at[device_id] = time.monotonic() + RETRY_S

    async def _settle_one(self, connection: Connection, device_id: int, duty: Duty, ends_at: float) -> None:
        while time.monotonic() < ends_at:
            settled = await settle(connection, device_id, self._layout)
            if settled is None:
                return
            self._metrics.settled.inc(settled)
            if settled == 0 and not await merge_next(connection, device_id, self._layout):
                await connection.execute(_NONE_LATE, (device_id,))
                return
            await duty.rest()


# late_since is in the table so that it survives a restart of the worker. It is set until the device is settled and its
# blocks are merged. A later time than now was set by a clock that has been set back.
_COUNTS = """
    SELECT device_id, count(*) FROM late_readings JOIN sealed_devices USING (device_id)
    WHERE recorded_at < sealed GROUP BY device_id
"""
_COUNTS_OF_NODES = """
    SELECT device_id, count(*) FROM late_readings JOIN sealed_until USING (device_id)
    WHERE recorded_at < sealed GROUP BY device_id
"""
_LATE = """
    WITH late AS (
        SELECT * FROM unnest(%s::bigint[], %s::bigint[]) AS late (device_id, readings)
    ), free AS (
        SELECT device_id FROM sealed_devices JOIN late USING (device_id)
        WHERE late_since IS NULL OR late_since > now()
        ORDER BY device_id FOR UPDATE OF sealed_devices SKIP LOCKED
    ), noted AS (
        UPDATE sealed_devices AS known SET late_since = now() FROM free WHERE known.device_id = free.device_id
    )
    SELECT device_id, readings, coalesce(late_since, now()) <= now() - %s, late_since
    FROM late JOIN sealed_devices USING (device_id)
    UNION ALL
    SELECT device_id, 0, false, late_since FROM sealed_devices
    WHERE late_since IS NOT NULL AND NOT EXISTS (SELECT FROM late WHERE late.device_id = sealed_devices.device_id)
    ORDER BY late_since, device_id
"""
_NONE_LATE = """
    UPDATE sealed_devices SET late_since = NULL
    WHERE device_id = (SELECT device_id FROM sealed_devices WHERE device_id = %s FOR UPDATE SKIP LOCKED)
"""


async def _late(connection: Connection, after: timedelta) -> Sequence[Late]:
    """Return the devices with late readings, or with blocks to merge, and note since when they have some."""
    counts = _COUNTS_OF_NODES if await is_distributed(connection) else _COUNTS
    rows = await (await connection.execute(counts)).fetchall()
    parameters = ([device for device, _ in rows], [count for _, count in rows], after)
    return [Late(*row[:3]) for row in await (await connection.execute(_LATE, parameters)).fetchall()]
