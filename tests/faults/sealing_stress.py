"""Writers, sealers and readers at once on a few devices: each reader compares the statistics of blocks with a scan.

Times pass 200,000 times faster than the clock, so that months end. A part of the readings is late. Each part connects
again when its connection is lost, also if the server is down.
"""

import asyncio
import math
import random
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import numpy as np
import psycopg
from psycopg.errors import (
    CheckViolation,
    DeadlockDetected,
    InFailedSqlTransaction,
    InternalError_,
    SerializationFailure,
    UniqueViolation,
)

from ingestor.replay import Replay
from ingestor.storing.isolate import store_isolating
from query_api.statistics.blocks.reading.items import Items
from query_api.statistics.blocks.reading.snapshot import snapshot
from query_api.statistics.blocks.reading.statistics import AxisStatistics, Needs, read_statistics
from query_api.statistics.blocks.sealing.announcing import announce, wait_for_writers
from query_api.statistics.blocks.sealing.merging import merge
from query_api.statistics.blocks.sealing.sealing import seal_step
from query_api.statistics.blocks.sealing.settling import settle
from query_api.worker.metrics import WorkerMetrics
from query_api.worker.sealing import Sealing
from query_api.worker.settling import Settling
from shared.errors import DatabaseUnreachable, ServerFault
from shared.postgres import arrays
from shared.postgres.arrays import Bigints, Moment
from shared.postgres.connections import Connection, connect
from shared.readings.announcements import Announcements
from shared.readings.deletions import Fence
from shared.readings.model import SECOND, Microseconds, Reading, to_datetime, to_microseconds
from shared.readings.partitions import Partitions
from shared.readings.store import prepare, store, store_new, store_requests
from shared.settings import Settings
from tests import citus
from tests.blocks import SMALL
from tests.faults.replaying import replayed

DEVICES = range(1, 6)
BASE = to_microseconds(datetime(2023, 1, 1, tzinfo=UTC))
SPEED = 200_000
NEEDS = Needs((0.5, 0.95), deviations=True, ends=True)
_REGISTER = "INSERT INTO devices (id, key, name) SELECT n, n, n FROM unnest(%s::bigint[]) AS n ON CONFLICT DO NOTHING"
_ENROL = "INSERT INTO sealed_devices (device_id) SELECT unnest(%s::bigint[])"
_OF_A_NODE = (InternalError_, InFailedSqlTransaction, ServerFault) if citus.WORKERS else ()
_LOST = (psycopg.OperationalError, DatabaseUnreachable, *_OF_A_NODE)
REPLAYED = 0.1
"""Part of the batches that are stored by a replay of a dead letter."""
REFUSED = Reading(1, BASE, 0, 2000.0, 0.0, 0.0)
"""The database refuses it."""
PAUSE_S = 0.05
"""Before a part connects again."""
_SCAN = """
    SELECT x, y, z FROM readings WHERE device_id = ANY(%s) AND recorded_at >= %s AND recorded_at <= %s
    ORDER BY recorded_at, x, y, z
"""
_UNSEAL = "SELECT unseal_readings(%s, %s)"
_NO_MARGIN = timedelta(days=-36_500)
"""Also readings in the future are sealed."""
_BRIEF_S = 0.2
"""Between two looks of the worker's rounds at a device, and between two rounds."""
_KILL = """
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE application_name = 'devicestat stress sealer' AND datname = current_database() ORDER BY random() LIMIT 1
"""


Part = Callable[[random.Random], Awaitable[None]]


class Stress:
    """`checks`: whether ingestors copy late readings. `waits`: whether sealers wait for writers.

    `sealers`: how many, beside the rounds of a worker, and an operator who unseals readings; without any, the test has
    its own. `base`, `speed`: where the times of readings begin, and how much faster than the clock they pass. `oldest`,
    `devices`: earlier readings, and other devices, are not compared.
    """

    def __init__(
        self,
        url: str,
        *,
        checks: bool = True,
        waits: bool = True,
        sealers: int = 2,
        base: Microseconds = BASE,
        speed: int = SPEED,
    ) -> None:
        self._url = url
        self._sealers = sealers
        self._base = self.oldest = base
        self._speed = speed
        self._checks = checks
        self._waits = waits
        self._began = time.monotonic()
        self._stopped = asyncio.Event()
        self.stored = self.sealed = self.compared = self.kills = self.lost = self.unsealed = self.replayed = 0
        self.worker = WorkerMetrics()
        self.wrong: list[str] = []
        self.devices = list(DEVICES)

    def now(self) -> Microseconds:
        """Return the time of the newest readings."""
        return self._base + int((time.monotonic() - self._began) * self._speed * SECOND)

    def stop(self) -> None:
        """End `run`."""
        self._stopped.set()

    async def run(self, seconds: float) -> None:
        """Run for some seconds, or until something is wrong."""
        async with await connect(self._url, "stress") as connection:
            await connection.execute(_REGISTER, (list(DEVICES),))
            await connection.execute(_ENROL, (list(DEVICES),))
        parts: list[Part] = [self._write] * 3 + [self._seal] * self._sealers + [self._read] * 2
        if self._sealers:
            parts += [self._sealing_rounds, self._settling_rounds, self._unseal]
        async with asyncio.TaskGroup() as tasks:
            for seed, part in enumerate(parts):
                tasks.create_task(self._again(part, random.Random(seed)))
            tasks.create_task(self._again(self._kill, random.Random(99)))
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopped.wait(), seconds)
            self._stopped.set()

    async def _again(self, part: Part, chance: random.Random) -> None:
        """Run the part until the stop, over any number of connections."""
        while not self._stopped.is_set():
            try:
                await part(chance)
            except _LOST:
                self.lost += 1
                await asyncio.sleep(PAUSE_S)

    # Writers.

    async def _write(self, chance: random.Random) -> None:
        rng, fence, partitions = np.random.default_rng(chance.randrange(2**32)), Fence(), Partitions()
        async with await connect(self._url, "stress writer") as connection:
            await prepare(connection)
            replay = Replay(Settings(), connection)
            while not self._stopped.is_set():
                batch = self._batch(chance, rng)
                await partitions.ensure(connection, batch)
                if self._checks and chance.random() < REPLAYED:
                    self.replayed += await replayed(connection, replay, batch)
                    continue
                with suppress(UniqueViolation, DeadlockDetected, CheckViolation):  # of a month that was dropped
                    await self._store(connection, fence, batch, chance)
                    self.stored += len(batch)

    def _batch(self, chance: random.Random, rng: np.random.Generator) -> list[Reading]:
        count, top = chance.choice([1, 20, 150]), self.now()
        late = chance.choices([0.0, 0.05, 1.0], [6, 3, 1])[0]
        times = np.where(
            rng.random(count) < late, rng.integers(self.oldest, top + 1, count), top - rng.integers(0, 10**9, count)
        )
        devices = rng.choice(DEVICES, count)
        x, y, z = rng.normal(0, 100, count), np.round(rng.normal(5, 1, count), 1), rng.choice([0.0, -0.0, 1.0], count)
        columns = (devices, times, x.clip(-1000, 1000), y, z)
        return [Reading(d, t, 0, *axes) for d, t, *axes in zip(*(column.tolist() for column in columns), strict=True)]

    async def _store(self, connection: Connection, fence: Fence, batch: list[Reading], chance: random.Random) -> None:
        async with connection.transaction():
            if self._checks and chance.random() < 0.3:
                await store_requests(connection, [batch])
            else:
                await fence.enter(connection)
                batch = [one for one in batch if one.device_id not in fence.deleted]
                await self._pause(chance)
                way = chance.choice([store_new, store, store_isolating])
                if way is store_isolating:
                    batch.insert(chance.randrange(len(batch) + 1), REFUSED)
                await way(connection, batch, fence.announcements if self._checks else Announcements())
            await self._pause(chance)

    async def _pause(self, chance: random.Random) -> None:
        await asyncio.sleep(chance.choice([0, 0, 0.002, 0.02]))

    # Sealers, which are killed.

    async def _seal(self, chance: random.Random) -> None:
        async with await connect(self._url, "stress sealer") as connection:
            while not self._stopped.is_set():
                with suppress(SerializationFailure, DeadlockDetected):
                    await self._seal_some(connection, chance)

    async def _seal_some(self, connection: Connection, chance: random.Random) -> None:
        chosen = chance.sample(DEVICES, chance.choice([1, 2, 5]))
        until = {device: self.now() - chance.choice([0, 0, 10**9, 10**10]) for device in chosen}
        announced = await announce(connection, until)
        if self._waits:
            await wait_for_writers(connection)
        for device, moment in until.items():
            if device not in announced:  # it was locked
                continue
            while not (await seal_step(connection, device, moment, SMALL, chance.choice([50, 1000]))).is_done:
                pass
            self.sealed += 1
            for act in (merge, settle):
                if chance.random() < 0.5:
                    await act(connection, device, SMALL)

    async def _sealing_rounds(self, _: random.Random) -> None:
        """Seal in the rounds of a worker."""
        brief = {"soonest_s": _BRIEF_S, "latest_s": _BRIEF_S, "round_s": 1.0, "share": 1.0}
        await self._in_rounds(Sealing(self.worker, SMALL, _NO_MARGIN, **brief).seal)

    async def _settling_rounds(self, _: random.Random) -> None:
        """Settle in the rounds of a worker."""
        await self._in_rounds(Settling(self.worker, SMALL, settle_after=timedelta(), round_s=1.0, share=1.0).settle)

    async def _in_rounds(self, act: Callable[[Connection], Awaitable[None]]) -> None:
        async with await connect(self._url, "stress sealer") as connection:
            while not self._stopped.is_set():
                await act(connection)
                await asyncio.sleep(_BRIEF_S)

    async def _unseal(self, chance: random.Random) -> None:
        """Unseal readings, as an operator does."""
        async with await connect(self._url, "stress operator") as connection:
            while not self._stopped.is_set():
                moment = to_datetime(chance.randrange(self.oldest, self.now() + 1))
                with suppress(DeadlockDetected):
                    await connection.execute(_UNSEAL, (chance.choice(self.devices), moment))
                    self.unsealed += 1
                await asyncio.sleep(chance.uniform(0, 1))

    async def _kill(self, chance: random.Random) -> None:
        async with await connect(self._url, "stress killer") as connection:
            while not self._stopped.is_set():
                await asyncio.sleep(chance.uniform(1, 4))
                await connection.execute(_KILL)
                self.kills += 1

    # Readers.

    async def _read(self, chance: random.Random) -> None:
        async with await connect(self._url, "stress reader") as connection:
            while not self._stopped.is_set():
                await self._compare(connection, chance)

    async def _compare(self, connection: Connection, chance: random.Random) -> None:
        devices = chance.sample(self.devices, chance.choice([1, 1, 3]))
        start, end = sorted(chance.randrange(self.oldest, self.now() + 2) for _ in range(2))
        start = self.oldest if chance.random() < 0.3 else start
        end = 2**61 if chance.random() < 0.3 else end
        async with snapshot(connection):
            found = await read_statistics(connection, Items.together(devices, start, end), NEEDS, layout=SMALL)
            cursor = arrays.cursor(connection)
            await cursor.execute(_SCAN, (Bigints(np.array(devices)), Moment(start), Moment(end)))
            rows = await cursor.fetchall()
        self.compared += 1
        group = found.groups[0]
        if (group is None) != (not rows):
            self._note(f"devices {devices}, {start} to {end}: {group} and {rows}")
        for axis, values in zip(group or (), np.array(rows).T, strict=False):
            if not _is_same(axis, values):
                self._note(f"devices {devices}, {start} to {end}: {axis} is not that of {len(values)} values")

    def _note(self, text: str) -> None:
        self.wrong.append(text)
        self._stopped.set()


def _is_same(found: AxisStatistics, in_time: np.ndarray) -> bool:
    """`in_time`: the values in the order of the readings."""
    values = np.sort(in_time)
    places = [fraction * (len(values) - 1) for fraction in found.pairs]
    pairs = [(values[math.floor(place)], values[math.ceil(place)]) for place in places]
    return (
        (found.count, found.least, found.greatest) == (len(values), values[0], values[-1])
        and list(found.pairs.values()) == pairs
        and found.deviations == _deviations(values)
        and found.ends is not None
        and [end.value for end in found.ends] == [in_time[0], in_time[-1]]
        and float(found.total) == math.fsum(values)
    )


def _deviations(values: np.ndarray) -> tuple[float, float]:
    """Return the two middle absolute deviations from the median of sorted values."""
    middles = [(len(values) - 1) // 2, len(values) // 2]
    lower, upper = np.sort(np.abs(values - values[middles].sum() / 2))[middles].tolist()
    return lower, upper
