"""Retention drops months, and a device is deleted, while readings are stored and sealed: an analysis equals a scan."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime

from psycopg.errors import DeadlockDetected, LockNotAvailable

from query_api.statistics.blocks.checking.device import Checker
from query_api.worker.maintenance.partitions import SLACK, drop_partitions
from query_api.worker.maintenance.removal import remove_some
from shared.postgres.connections import Connection, connect
from shared.readings import deletions
from shared.readings.model import DAY, to_datetime, to_microseconds
from tests.blocks import SMALL, assert_sealed
from tests.conftest import Database
from tests.faults.sealing_stress import DEVICES, Stress
from tests.faults.test_sealers_killed import stressed
from tests.waiting import eventually

COMPARISONS = 8
"""After these, no reader is left that began before."""
SEALED = 2
"""Devices that are sealed meanwhile."""
DELETED = 5
TABLES = ("sealed_devices", "late_readings", "blocks", "block_values", "block_columns", "readings")


async def test_months_are_dropped_and_a_device_is_deleted(database: Database, database_url: str) -> None:
    stress = Stress(database_url, speed=1_000_000)

    async def counts() -> tuple[int, int, int]:
        assert not running.done(), stress.wrong
        return stress.now(), stress.compared, stress.sealed

    async def later(days: float = 0) -> None:
        goal = stress.now() + int(days * DAY), stress.compared + COMPARISONS, stress.sealed + SEALED
        await eventually(counts, lambda found: all(one >= least for one, least in zip(found, goal, strict=True)))

    async with (
        stressed(stress) as running,
        await connect(database_url, "maintenance") as maintenance,
        checked(database_url) as problems,
    ):
        await later(days=62)
        for _ in range(2):
            edge = to_datetime(stress.oldest).replace(day=1)
            edge = edge.replace(year=edge.year + edge.month // 12, month=edge.month % 12 + 1)
            stress.oldest = to_microseconds(edge)
            await later()
            age = datetime.now(UTC) - edge - SLACK
            await eventually(lambda age=age: drop_partitions(maintenance, age), bool)  # type: ignore[misc]
        stress.devices.remove(DELETED)
        await later()
        await delete(maintenance)
        await later()
    assert problems == []
    for table in TABLES:
        found = await database.execute(f"SELECT FROM {table} WHERE device_id = {DELETED}".encode())
        assert found.rowcount == 0, table
    assert (await database.execute("SELECT FROM blocks WHERE first < %s", (edge,))).rowcount == 0
    assert sum([sum(await assert_sealed(database, device)) for device in stress.devices]) > 0


@asynccontextmanager
async def checked(url: str) -> AsyncIterator[list[str]]:
    """Check and mend all devices again and again for the block. Yield what is found."""
    found: list[str] = []

    async def check() -> None:
        async with await connect(url, "check") as connection:
            checker = Checker(connection, mends=True, layout=SMALL)
            while True:
                for device in DEVICES:
                    found.extend([str(problem) async for problem in checker.device(device)])

    checking = asyncio.create_task(check(), name="check")
    try:
        yield found
    finally:
        checking.cancel()
        with suppress(asyncio.CancelledError):
            await checking


async def delete(connection: Connection) -> None:
    """Delete the device, and its data. A client that the fence has kept waiting for too long asks again."""
    is_marked = False
    while not is_marked:
        with suppress(LockNotAvailable):
            await mark(connection)
            is_marked = True
    removed: int | None = 1
    while removed is not None:
        try:
            removed = await remove_some(connection)
        except DeadlockDetected:
            await asyncio.sleep(0)


async def mark(connection: Connection) -> None:
    async with connection.transaction():
        await connection.execute("DELETE FROM devices WHERE id = %s", (DELETED,))
        await deletions.record(connection, DELETED, "5")
