"""Devices with sealed readings, and what their blocks must hold."""

from query_api.statistics.blocks.building import Columns
from query_api.statistics.blocks.checking.device import Checker
from query_api.statistics.blocks.layout import TOP, Layout
from query_api.statistics.blocks.sealing.announcing import announce, wait_for_writers
from query_api.statistics.blocks.sealing.sealing import seal_step
from shared.postgres.connections import Connection
from shared.readings.deletions import Fence
from shared.readings.model import Microseconds, Reading
from shared.readings.partitions import Partitions
from shared.readings.store import prepare, store

SMALL = Layout(targets=(4, 16, 64, 256), marks=4, least_stride=2, guide=4, time_stride=4)
"""A thousand readings have blocks of all levels."""

_REGISTER = "INSERT INTO devices (id, key, name) VALUES (%s, %s, 'n') ON CONFLICT DO NOTHING"
_ENROL = "INSERT INTO sealed_devices (device_id) VALUES (%s) ON CONFLICT DO NOTHING"


async def stored(connection: Connection, device_id: int, columns: Columns) -> None:
    """Store the readings as an ingestor does, those with times that were announced as late ones."""
    await connection.execute(_REGISTER, (device_id, f"key-{device_id}"))
    await connection.execute(_ENROL, (device_id,))
    await prepare(connection)
    rows = zip(columns.times.tolist(), *(axis.tolist() for axis in columns.axes), strict=True)
    readings = [Reading(device_id, at, 0, x, y, z) for at, x, y, z in rows]
    await Partitions().ensure(connection, readings)
    fence = Fence()
    async with connection.transaction():
        await fence.enter(connection)
        await store(connection, readings, fence.announcements)


async def sealed(
    connection: Connection, device_id: int, until: Microseconds, layout: Layout = SMALL, step: int = 1000
) -> int:
    """Announce, wait and seal, as a worker does."""
    await announce(connection, {device_id: until})
    await wait_for_writers(connection)
    total, is_done = 0, False
    while not is_done:
        found = await seal_step(connection, device_id, until, layout, step)
        total, is_done = total + found.readings, found.is_done
    return total


_LEVELS = """
    SELECT count(level) FROM generate_series(0, %s) AS wanted
    LEFT JOIN blocks ON level = wanted AND device_id = %s GROUP BY wanted ORDER BY wanted
"""


async def problems_of(connection: Connection, device_id: int, layout: Layout = SMALL) -> list[str]:
    """Return what `devicestat blocks check` finds."""
    return [str(problem) async for problem in Checker(connection, layout=layout).device(device_id)]


async def assert_sealed(connection: Connection, device_id: int, layout: Layout = SMALL) -> list[int]:
    """Hold that each reading before `sealed` is in one block, or late, and that each block is right.

    Return the number of blocks of each level.
    """
    found = await problems_of(connection, device_id, layout)
    assert found == [], found
    rows = await (await connection.execute(_LEVELS, (TOP, device_id))).fetchall()
    return [count for (count,) in rows]
