"""The migration to sealed blocks (ADR 41) while services of the version before run, given by their statements."""

import asyncio
from collections.abc import AsyncIterator, Sequence

import psycopg
import pytest
from psycopg.errors import FeatureNotSupported

from query_api.statistics.analysis import analyse
from query_api.statistics.blocks.layout import STANDARD
from shared.postgres.connections import Connection, connect
from shared.postgres.migrate import migrate, migrations
from shared.readings.model import SECOND, to_datetime
from tests.blocks import assert_sealed, sealed
from tests.roles import url_as
from tests.waiting import eventually

BEFORE = 23
NOON = 1_769_860_800 * SECOND  # 2026-01-31T12:00:00Z

# The ingestor of the version before: the statements of a transaction that stores a batch.
ENTER = "SELECT number, device_id FROM devices_deleted_since(%s)"
COPY = "COPY readings (device_id, recorded_at, received_at, x, y, z) FROM STDIN"
RECORD = """
    INSERT INTO ingest_journal (client_id, batch_no, writer, packets, stored, duplicates, held)
    VALUES ('old', %s, gen_random_uuid(), '', %s, 0, 0)
"""
# The API of the version before.
STORE_REQUESTS = """
    SELECT ids, added FROM store_readings(%s::integer[], %s::bigint[], %s::timestamptz[], %s::timestamptz[],
                                          %s::float8[], %s::float8[], %s::float8[])
"""
FORMER_ROLES = """
    ALTER TABLE readings OWNER TO devicestat_readings;
    GRANT SELECT ON devices TO devicestat_api;
    GRANT SELECT, INSERT ON readings TO devicestat_api;
    GRANT USAGE ON SEQUENCE readings_id_seq TO devicestat_api;
    GRANT EXECUTE ON FUNCTION store_readings, pass_deletion_fence TO devicestat_api
"""

ANNOUNCED = "SELECT FROM sealed_devices WHERE number > 0"


@pytest.fixture
async def former(empty_database_url: str) -> AsyncIterator[Connection]:
    """A database of the version before, with a device."""
    async with await connect(empty_database_url, "test") as connection:
        await migrate(connection, migrations()[:BEFORE])
        await connection.execute("INSERT INTO devices (id, key, name) VALUES (1, '1', 'one')")
        await connection.execute("SELECT ensure_readings_partition('2026-01-01Z')")
        yield connection


async def ingest(connection: Connection, batch: int, seconds: Sequence[int]) -> None:
    """As the ingestor of the version before, up to its COMMIT."""
    await connection.execute(ENTER, (0,))
    async with connection.cursor() as cursor, cursor.copy(COPY) as copy:
        for second in seconds:
            await copy.write_row((1, moment(second), moment(second), 1.0, 2.0, 3.0))
    await connection.execute(RECORD, (batch, len(seconds)))


def moment(second: int) -> str:
    return to_datetime(NOON + second * SECOND).isoformat()


async def count(connection: Connection) -> int:
    return (await analyse(connection, 1, None, None)).x.count


async def test_a_transaction_of_an_older_ingestor_is_waited_for(former: Connection, empty_database_url: str) -> None:
    """It has begun before the migration and commits after the announcement: its readings are not late, but sealed."""
    async with await connect(empty_database_url, "old") as old, await connect(empty_database_url, "worker") as worker:
        async with old.transaction():
            await ingest(old, 1, range(50))
            await migrate(former)
            await former.execute("INSERT INTO sealed_devices (device_id) VALUES (1)")
            sealing = asyncio.create_task(sealed(worker, 1, NOON + 1000 * SECOND, STANDARD), name="sealing")
            await eventually(lambda: former.execute(ANNOUNCED), lambda found: found.rowcount == 1)
            assert not sealing.done()
        assert await sealing == 50
    assert await count(former) == 50
    await assert_sealed(former, 1, STANDARD)


async def test_an_older_ingestor_stores_nothing_after_the_migration(
    former: Connection, empty_database_url: str
) -> None:
    """Also one that has prepared its statements before."""
    async with await connect(empty_database_url, "old") as old:
        for batch in range(1, 10):
            async with old.transaction():
                await ingest(old, batch, [batch])
        await migrate(former)
        with pytest.raises(FeatureNotSupported, match="earlier version than the schema"):
            async with old.transaction():
                await ingest(old, 10, [10])
    assert await count(former) == 9


async def test_an_older_api_stores_readings_before_the_privileges_are_granted(
    former: Connection, empty_database_url: str
) -> None:
    await former.execute(FORMER_ROLES.encode(), prepare=False)
    await former.execute(migrations()[BEFORE].text.encode(), prepare=False)
    async with await psycopg.AsyncConnection.connect(url_as(empty_database_url, "api"), autocommit=True) as api:
        at = [moment(1)]
        row = await (await api.execute(STORE_REQUESTS, ([0], [1], at, at, [1.0], [2.0], [3.0]))).fetchone()
    assert row is not None
    assert len(row[1]) == 1
