"""The round that seals readings into blocks (ADR 41).

One worker at a time does so, for a quarter of the time at most. A device is looked at when it should have enough
readings for a block, by the rate of its last ones. Readings are sealed some minutes after their time: those that are
stored later are late, and cost more.

The newest reading bounds what is announced. So a device that sends its readings in batches has no late ones, and a
clock of the database that was ahead has no effect on later readings.
"""

import time
from collections.abc import Mapping, Sequence
from datetime import timedelta
from functools import partial

import msgspec
import numpy as np
import structlog

from query_api.statistics.blocks.layout import MINI, STANDARD, Layout
from query_api.statistics.blocks.reading.shards import by_shard, of_devices
from query_api.statistics.blocks.sealing.announcing import announce, wait_for_writers
from query_api.statistics.blocks.sealing.merging import merge_next
from query_api.statistics.blocks.sealing.sealing import Step, seal_step
from query_api.worker.maintenance.duty import CONTENTION, SHARE, Duty, alone, note_failure
from query_api.worker.maintenance.scrub import mending
from query_api.worker.metrics import WorkerMetrics
from shared.postgres import arrays
from shared.postgres.arrays import Bigints, Moment, Moments
from shared.postgres.connections import Connection
from shared.postgres.distribution import is_distributed
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


class Open(msgspec.Struct, frozen=True):
    """A device to look at, and the times from `starts` on, before `ends`, in which it may have readings to seal.

    `lag`: the seconds since it is due. `now`: the time before which readings are old enough.
    """

    device_id: int
    starts: Microseconds
    ends: Microseconds
    lag: float
    now: Microseconds


class Due(msgspec.Struct, frozen=True):
    """A device that was looked at. `found`: its readings to seal, counted up to those of a mini block.

    `until`: the time up to which they can be sealed, if they are enough. `seconds`: the time in which they were sent.
    """

    device_id: int
    found: int
    until: Microseconds | None
    seconds: float


class Sealing:
    """Seals. Tests use a small `layout`, short times and all of the time: `share` 1."""

    def __init__(
        self,
        metrics: WorkerMetrics,
        layout: Layout = STANDARD,
        margin: timedelta = MARGIN,
        *,
        soonest_s: float = SOONEST_S,
        latest_s: float = LATEST_S,
        share: float = SHARE,
        round_s: float = ROUND_S,
    ) -> None:
        self._metrics = metrics
        self._layout = layout
        self._margin = margin
        self._soonest_s = soonest_s
        self._latest_s = latest_s
        self._share = share
        self._round_s = round_s
        self._enrols_at = time.monotonic()

    async def seal(self, connection: Connection) -> None:
        """Seal what is due, in a round of about ROUND_S at most, if no other worker does so."""
        ends_at, duty = time.monotonic() + self._round_s, Duty(self._share)
        async with alone(connection, "sealing round") as is_alone:
            if not is_alone:
                self._metrics.sealing_lag.set(0)  # another worker reports it
            locked: set[int] = set()  # by other transactions, in this round
            while is_alone and time.monotonic() < ends_at:
                await self._survey(connection)
                due = await self._due(connection, locked)
                if not due:
                    return
                locked |= await self._seal_all(connection, due, duty, ends_at)
                await duty.rest()

    async def _survey(self, connection: Connection) -> None:
        """Enrol new devices, every ENROL_S; immediately if there may be more."""
        now = time.monotonic()
        if now < self._enrols_at:
            return
        enrolled = (await connection.execute(_ENROL, (ENROLLED_AT_ONCE,))).rowcount
        await connection.execute(_LOOK_SOONER, {"longest": timedelta(seconds=self._latest_s)})
        if enrolled < ENROLLED_AT_ONCE:
            self._enrols_at = now + ENROL_S

    async def _due(self, connection: Connection, locked: set[int]) -> Sequence[Due]:
        """Look at the devices that are due. `locked`: those that are passed over."""
        parameters = {"margin": self._margin, "locked": list(locked), "limit": LOOK_AT_ONCE}
        async with arrays.cursor(connection) as cursor:
            rows = await (await cursor.execute(_OPEN, parameters)).fetchall()
        devices = [Open(*row) for row in rows]
        self._metrics.sealing_lag.set(max((device.lag for device in devices), default=0.0))
        counts = await self._counts(connection, [device for device in devices if device.starts < device.ends])
        return [_due(device, *counts.get(device.device_id, (0, None))) for device in devices]

    async def _counts(
        self, connection: Connection, devices: Sequence[Open]
    ) -> Mapping[int, tuple[int, Microseconds | None]]:
        """Return the number of the readings of each device, up to those of a mini block, and the time of the last."""
        if not devices:
            return {}
        ids, starts, ends = np.array([(one.device_id, one.starts, one.ends) for one in devices], np.int64).T
        bounds = {"first": Moment(int(starts.min())), "until": Moment(int(ends.max())), "enough": self._enough}
        statement = _COUNT_OF_SHARD if await is_distributed(connection) else _COUNT
        counts: dict[int, tuple[int, Microseconds | None]] = {}
        for own in await by_shard(connection, ids):
            of_shard = {"devices": Bigints(ids[own]), "starts": Moments(starts[own]), "ends": Moments(ends[own])}
            async with arrays.cursor(connection) as cursor:
                # Not prepared, so that only months from `first` on are planned.
                await cursor.execute(statement, bounds | of_shard, prepare=False)
                counts |= {device_id: (found, last) for device_id, found, last in await cursor.fetchall()}
        return counts

    @property
    def _enough(self) -> int:
        return self._layout.targets[MINI]

    async def _seal_all(self, connection: Connection, due: Sequence[Due], duty: Duty, ends_at: float) -> set[int]:
        """Seal the devices that have enough readings, and return those that other transactions have locked.

        `ends_at`: the devices that are left then stay due.
        """
        few = {one.device_id: self._pause(one, Step(0, is_done=True)) for one in due if one.until is None}
        locked = await _look_again(connection, few)
        ready = {one.device_id: one.until for one in due if one.until is not None}
        if not ready:
            return locked
        announced = await announce(connection, ready)
        if announced:
            self._metrics.fence_wait_seconds.inc(await wait_for_writers(connection))
        for one in due:
            if one.device_id in announced and time.monotonic() < ends_at:
                pause = await self._try_to_seal(connection, one, duty, ends_at)
                locked |= await _look_again(connection, {one.device_id: pause})
        return locked | (ready.keys() - announced)

    async def _try_to_seal(self, connection: Connection, one: Due, duty: Duty, ends_at: float) -> timedelta:
        """Seal the device, and return the time until it is looked at again. If it fails, other devices follow."""
        try:
            act = partial(self._seal_one, connection, one, duty, ends_at)
            return self._pause(one, await mending(act, connection, self._metrics, self._layout, duty))
        except CONTENTION as error:
            _log.info("sealing of a device was put off", device_id=one.device_id, reason=str(error).strip())
            return timedelta(seconds=self._soonest_s)
        except Exception as error:  # noqa: BLE001  # it is logged and counted
            note_failure(error, "sealing", one.device_id, self._metrics)
            return timedelta(seconds=self._latest_s)

    async def _seal_one(self, connection: Connection, one: Due, duty: Duty, ends_at: float) -> Step:
        """Seal the device, and return what was sealed in all. It may not be done at the end of the round."""
        assert one.until is not None, "it has enough readings"
        sealed = 0
        while True:
            step = await seal_step(connection, one.device_id, one.until, self._layout)
            self._metrics.sealed.inc(step.readings)
            sealed += step.readings
            await duty.rest()
            while await merge_next(connection, one.device_id, self._layout):
                await duty.rest()
            if step.is_done or time.monotonic() >= ends_at:
                return Step(sealed, step.is_done)

    def _pause(self, one: Due, sealed: Step) -> timedelta:
        """Return the time until the device should have enough readings again."""
        if not sealed.is_done:
            return timedelta()
        count = sealed.readings or one.found
        if count == 0:
            return timedelta(seconds=self._latest_s)
        missing = self._enough if sealed.readings else self._enough - one.found
        return timedelta(seconds=min(self._latest_s, max(self._soonest_s, missing * one.seconds / count)))


def _due(device: Open, found: int, last: Microseconds | None) -> Due:
    seconds = (device.now - device.starts) / SECOND
    return Due(device.device_id, found, None if last is None else last + 1, seconds)


# The lock: a device that is deleted meanwhile is not enrolled after its blocks were removed.
_ENROL = """
    INSERT INTO sealed_devices (device_id)
    SELECT id FROM devices WHERE NOT EXISTS (SELECT FROM sealed_devices WHERE device_id = devices.id)
    LIMIT %s FOR KEY SHARE SKIP LOCKED
    ON CONFLICT DO NOTHING
"""
# A device is looked at later than LATEST_S if the clock has been set back since the time was set.
_LOOK_SOONER = """
    UPDATE sealed_devices AS known SET look_at = now() + %(longest)s
    FROM (SELECT device_id FROM sealed_devices WHERE look_at > now() + 2 * %(longest)s::interval
          FOR UPDATE SKIP LOCKED) AS free
    WHERE known.device_id = free.device_id
"""
# The extent bounds the months that are looked into (ADR 28).
_OPEN = """
    SELECT device_id, greatest(sealed, coalesce(starts_at, '-infinity')), least(ends_at, now() - %(margin)s::interval),
           extract(epoch FROM now() - look_at)::float8, now() - %(margin)s::interval
    FROM sealed_devices LEFT JOIN device_extents USING (device_id)
    WHERE look_at <= now() AND device_id <> ALL(%(locked)s::bigint[])
    ORDER BY look_at LIMIT %(limit)s
"""
# first, until: the months outside of them are neither planned nor locked.
_COUNTED = """
    SELECT device.id, counted.found, CASE WHEN counted.found >= %(enough)s THEN (
               SELECT recorded_at FROM readings
               WHERE device_id = device.id {of_shard} AND recorded_at >= device.starts AND recorded_at < device.ends
                 AND recorded_at >= %(first)s AND recorded_at < %(until)s
               ORDER BY recorded_at DESC LIMIT 1
           ) END
    FROM unnest(%(devices)s::bigint[], %(starts)s::timestamptz[], %(ends)s::timestamptz[]) AS device (id, starts, ends)
    CROSS JOIN LATERAL (
        SELECT count(*)::integer AS found FROM (
            SELECT FROM readings
            WHERE device_id = device.id {of_shard} AND recorded_at >= device.starts AND recorded_at < device.ends
              AND recorded_at >= %(first)s AND recorded_at < %(until)s
            LIMIT %(enough)s
        ) AS few
    ) AS counted
"""
_COUNT, _COUNT_OF_SHARD = (_COUNTED.format(of_shard=one).encode() for one in ("", of_devices("readings")))
_LOOK_AGAIN = """
    WITH free AS (
        SELECT known.device_id, given.pause FROM sealed_devices AS known
        JOIN unnest(%s::bigint[], %s::interval[]) AS given (device_id, pause) USING (device_id)
        ORDER BY device_id FOR UPDATE OF known SKIP LOCKED
    )
    UPDATE sealed_devices AS known SET look_at = now() + free.pause FROM free WHERE known.device_id = free.device_id
    RETURNING known.device_id
"""


async def _look_again(connection: Connection, pauses: Mapping[int, timedelta]) -> set[int]:
    """Set when the devices are looked at again. Return those for which it was not: they are locked, or were deleted."""
    if not pauses:
        return set()
    cursor = await connection.execute(_LOOK_AGAIN, (list(pauses), list(pauses.values())))
    return pauses.keys() - {device_id for (device_id,) in await cursor.fetchall()}
