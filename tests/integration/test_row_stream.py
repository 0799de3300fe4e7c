"""Rows in parts are the data of one COPY, block by block, and of one snapshot.

Both ways of reading also work on the other engine, which the tests choose for a connection.
"""

import itertools
import json
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from datetime import UTC, datetime

import httpx
import numpy as np
import pytest
from psycopg.errors import LockNotAvailable

from query_api.readings.formats.exports import prepare
from query_api.readings.formats.format import StreamFormat
from query_api.readings.formats.negotiation import STREAMS
from query_api.readings.formats.tables import ARROW
from query_api.readings.formats.text import CSV
from query_api.readings.listing import bounds
from query_api.readings.plots.curve import draw
from query_api.readings.row_stream import PARTS, Copy, Order, PartRows, Stretch, read_blocks
from query_api.serve.tuning import Tuning
from query_api.statistics.blocks.building import Columns
from query_api.statistics.blocks.reading.snapshot import snapshot
from shared.postgres import distribution
from shared.postgres.connections import Connection, connect
from shared.readings.binary_copy import BLOCK_BYTES
from shared.readings.model import SECOND, to_microseconds
from tests import citus
from tests.blocks import stored
from tests.conftest import Database
from tests.integration.test_series_of_blocks import ALWAYS, expected
from tests.waiting import eventually

DEVICE = 1
FIRST = datetime(2025, 1, 31, 23, tzinfo=UTC)
TIED = 2_000
"""Readings of each of two times."""
COUNT = 2 * TIED + 1_000
VALUES = [-1000.0, -0.0, 5e-324, -1e-7, 0.1, 999.9999999999999]


async def fill(database: Database) -> Columns:
    """Store readings of two months, many of them of two times, in no order of their values."""
    chance = np.random.default_rng(3)
    start = to_microseconds(FIRST)
    times = np.concatenate((np.full(TIED, start + SECOND), start + np.arange(1_000) * 7 * SECOND + 1))
    times = np.concatenate((times, np.full(TIED, times.max() + 1)))
    y, z = chance.choice(VALUES, COUNT), chance.permutation(COUNT) / 16
    columns = Columns(times, chance.choice([-3.0, 0.0, 8.0], COUNT), y, z)
    await stored(database, DEVICE, columns)
    return columns


@asynccontextmanager
async def connected(url: str, *, in_parts: bool) -> AsyncIterator[Connection]:
    """Connect, and prepare for rows as on a cluster, or as on one machine."""
    async with await connect(url, "test") as connection:
        distribution._known[connection] = in_parts
        await prepare(connection)
        yield connection


async def blocks_of(
    connection: Connection, copy: Copy, stretch: Stretch, size: int = BLOCK_BYTES, parts: PartRows = PARTS
) -> list[tuple[bytes, bool]]:
    return [block async for block in read_blocks(connection, copy, stretch, size, parts)]


@pytest.fixture
async def one_copy(database_url: str) -> AsyncIterator[Connection]:
    async with connected(database_url, in_parts=False) as connection:
        yield connection


TIED_AT, PAUSE = FIRST.replace(second=1), FIRST.replace(minute=40)
PERIODS = [(None, None), (TIED_AT, TIED_AT), (FIRST.replace(second=2), PAUSE), (TIED_AT, FIRST)]


@pytest.mark.parametrize("order", ["asc", "desc"])
@pytest.mark.parametrize("form", STREAMS, ids=lambda form: form.name)
async def test_parts_are_the_blocks_of_one_copy(
    database: Database, database_url: str, one_copy: Connection, form: StreamFormat, order: Order
) -> None:
    await fill(database)
    copy = form.copy(order)
    async with connected(database_url, in_parts=True) as in_parts:
        for number, ((start, end), limit) in enumerate(itertools.product(PERIODS, (None, 70, TIED + 1))):
            stretch, size = Stretch(DEVICE, start, end, limit), (BLOCK_BYTES, 4_096, 500)[number % 3]
            one = await blocks_of(one_copy, copy, stretch, size)
            for parts in (PartRows(70, 70), PartRows(3, TIED), PartRows(COUNT, COUNT)):
                assert await blocks_of(in_parts, copy, stretch, size, parts) == one, (stretch, parts)


async def test_parts_of_one_row(database: Database, database_url: str, one_copy: Connection) -> None:
    """In blocks of any size."""
    await stored(database, DEVICE, Columns(np.arange(5) // 2 * SECOND, *np.arange(15.0).reshape(3, 5)))
    stretch = Stretch(DEVICE, None, None)
    async with connected(database_url, in_parts=True) as in_parts:
        for form, size in itertools.product((CSV, ARROW), range(1, 400, 3)):
            one = await blocks_of(one_copy, form.copy("asc"), stretch, size)
            assert await blocks_of(in_parts, form.copy("asc"), stretch, size, PartRows(1, 1)) == one


CHANGE = """
    INSERT INTO readings (device_id, recorded_at, received_at, x, y, z)
    SELECT device_id, recorded_at, received_at, x + 0.5, y, z FROM readings
"""


async def lock_months(database: Database) -> None:
    """Lock what the detachment of a month locks on a cluster."""
    async with database.transaction():
        await database.execute("LOCK TABLE retiring_months IN ACCESS EXCLUSIVE MODE NOWAIT")


@pytest.mark.parametrize("order", ["asc", "desc"])
async def test_all_parts_are_of_one_snapshot(database: Database, database_url: str, order: Order) -> None:
    """Readings are stored and deleted between any two parts of the first ones, and no month is detached."""
    await fill(database)
    copy, stretch, parts = CSV.copy(order), Stretch(DEVICE, None, None), PartRows(10, 1_000)
    before = b"".join(block for block, _ in await blocks_of(database, copy, stretch))
    async with (
        connected(database_url, in_parts=True) as connection,
        aclosing(read_blocks(connection, copy, stretch, 1, parts)) as blocks,
    ):
        read = [await anext(blocks)]
        await database.execute(CHANGE)
        with pytest.raises(LockNotAvailable):
            await lock_months(database)
        read += [await anext(blocks) for _ in range(200)]
        await database.execute("DELETE FROM readings")
        read += [block async for block in blocks]
    assert b"".join(block for block, _ in read) == before
    assert await blocks_of(database, copy, stretch) == [(b"", False)]


async def test_a_curve_of_rows_in_parts(database: Database) -> None:
    """In parts on a cluster."""
    columns = await fill(database)
    async with snapshot(database):
        within = await bounds(database, DEVICE, ALWAYS)
        assert within is not None
        for parts in (PartRows(50, 50), PartRows(3, 1_000)):
            curve = await draw(database, DEVICE, within, 100, parts=parts)
            lines = [(times.tolist(), values.tobytes()) for times, values in curve.lines]
            assert (curve.count, lines) == expected(columns, 100)


@pytest.mark.serve(Tuning(parts=PartRows(1, 2)))
async def test_an_export_in_parts(api: httpx.AsyncClient, device: int) -> None:
    """On a cluster: in parts of two rows, as a stream and as a range."""
    given = [
        {"device_id": device, "x": n % 3, "y": n, "z": 0, "timestamp": f"2025-03-0{1 + n // 4}T00:00:00Z"}
        for n in range(20)
    ]
    assert (await api.post("/stats", json=given)).status_code == 201
    for query in ("", "?order=desc", "?limit=7&order=desc", "?limit=20", "?end=2025-03-02"):
        listed = (await api.get(f"/stats/{device}{query}")).json()
        stream = await api.get(f"/stats/{device}.ndjson{query}")
        assert [json.loads(line) for line in stream.text.splitlines()] == listed
        part = await api.get(f"/stats/{device}.ndjson{query}", headers={"range": "bytes=0-"})
        assert (part.status_code, part.content) == (206, stream.content)


MANY = 100_000
FILL = """
    INSERT INTO readings (device_id, recorded_at, received_at, x, y, z)
    SELECT %s, timestamptz '2025-03-01 UTC' + n * interval '1 s', now(), sin(n) * 900, cos(n) * 900, n / 1000.0
    FROM generate_series(1, %s) AS n
"""
WRITTEN = "SELECT temp_bytes FROM pg_stat_database WHERE datname = current_database()"
EXISTS = "SELECT FROM pg_stat_activity WHERE pid = %s"


async def written(database: Database, url: str, *, in_parts: bool) -> int:
    """Return the bytes of temporary files that the coordinator writes for a stream of all readings."""

    async def total() -> int:
        (count,) = await (await database.execute(WRITTEN)).fetchone() or (0,)
        return int(count)

    before = await total()
    async with connected(url, in_parts=in_parts) as connection:
        pid = connection.info.backend_pid
        async for _ in read_blocks(connection, CSV.copy("asc"), Stretch(DEVICE, None, None)):
            pass
    await eventually(lambda: database.execute(EXISTS, (pid,)), lambda found: found.rowcount == 0)
    return await total() - before


@pytest.mark.skipif(not citus.WORKERS, reason="DEVICESTAT_TEST_CITUS_WORKERS names no cluster")
async def test_the_coordinator_holds_a_part_in_memory(database: Database, database_url: str) -> None:
    """Of one COPY it writes all rows into a file first."""
    await database.execute("SELECT ensure_readings_partition(timestamptz '2025-03-01 UTC')")
    await database.execute(FILL, (DEVICE, MANY))
    assert await written(database, database_url, in_parts=False) > MANY * 50
    assert await written(database, database_url, in_parts=True) == 0
