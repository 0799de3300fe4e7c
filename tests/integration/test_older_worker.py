"""A worker of the version before, given by its statements: it does not know `by_schedule`."""

from collections.abc import AsyncIterator

import psycopg
import pytest

from query_api.queue import claims as queue
from query_api.queue.claiming import Turns
from shared.postgres.connections import Connection, connect
from shared.postgres.migrate import migrate, migrations
from tests.conftest import Database
from tests.roles import url_as

BEFORE = 26

CLAIM = """
    WITH RECURSIVE running AS MATERIALIZED (
        SELECT device_id, count(*) AS held FROM analysis_requests WHERE status = 'running' GROUP BY device_id
    ), circle (device_id, lap) AS (
        SELECT %(after)s::bigint, 0
        UNION ALL
        SELECT following.device_id, following.lap
        FROM circle CROSS JOIN LATERAL (
            (SELECT device_id, circle.lap FROM analysis_requests
             WHERE status = 'queued' AND run_after IS NULL AND device_id > circle.device_id
             ORDER BY device_id LIMIT 1)
            UNION ALL
            (SELECT device_id, 1 FROM analysis_requests
             WHERE circle.lap = 0 AND status = 'queued' AND run_after IS NULL
             ORDER BY device_id LIMIT 1)
            LIMIT 1
        ) AS following (device_id, lap)
        WHERE following.lap = 0 OR following.device_id <= %(after)s
    ), candidate AS (
        (SELECT device_id, 0 AS held FROM circle
         WHERE device_id NOT IN (SELECT device_id FROM running)
           AND (SELECT true FROM devices WHERE devices.id = circle.device_id)
         LIMIT %(candidates)s)
        UNION ALL
        SELECT device_id, held FROM running
        WHERE (SELECT true FROM devices WHERE devices.id = running.device_id)
    ), next AS MATERIALIZED (
        SELECT request.id
        FROM (SELECT device_id FROM candidate ORDER BY held, device_id <= %(after)s, device_id) AS device
        CROSS JOIN LATERAL (
            SELECT id FROM analysis_requests
            WHERE device_id = device.device_id AND status = 'queued' AND run_after IS NULL
            ORDER BY id LIMIT 1
            FOR UPDATE SKIP LOCKED
        ) AS request
        LIMIT 1
    )
    UPDATE analysis_requests AS request
    SET status = 'running', joinable = false, attempts = attempts + 1, started_at = now(),
        lease_token = gen_random_uuid(), lease_until = now() + %(lease)s
    FROM next WHERE request.id = next.id
    RETURNING request.id, device_id, lower(period) AS start, upper(period) AS end, figures, attempts,
              lease_token AS token
"""
ENQUEUE = """
    INSERT INTO analysis_requests AS request (device_id, period, figures, joinable, owner)
    VALUES (%s, '[,]', '{}', true, NULL)
    ON CONFLICT (device_id, period, figures) WHERE joinable DO UPDATE SET joinable = request.joinable
"""
ADD_DEVICES = "INSERT INTO devices (key, name) SELECT n, n FROM generate_series(1, 4) n"


async def claim(worker: Connection) -> tuple[int, object] | None:
    """Claim as the worker of the version before. Returns the id and the token."""
    given = {"after": 0, "lease": queue.LEASE, "candidates": 16}
    row = await (await worker.execute(CLAIM, given)).fetchone()
    return None if row is None else (row[0], row[-1])


@pytest.fixture
async def older(database: Database, database_url: str) -> AsyncIterator[Connection]:
    """A connection of the worker's role."""
    async with await psycopg.AsyncConnection.connect(url_as(database_url, "worker"), autocommit=True) as connection:
        yield connection


async def test_it_claims_requests_of_people_and_of_schedules(database: Database, older: Connection) -> None:
    await database.execute(ADD_DEVICES)
    await database.execute(
        "INSERT INTO analysis_requests (device_id, period, by_schedule) VALUES (1, '[,]', true), (2, '[,]', false),"
        " (3, '[,]', true)"
    )
    first = await claim(older)
    (second,) = await Turns().claim(database, 1)
    third = await claim(older)
    assert first is not None
    assert third is not None
    assert (first[0], second.id, third[0]) == (1, 2, 3)
    assert await claim(older) is None


async def test_its_requests_are_those_of_people(database: Database, older: Connection) -> None:
    await database.execute(ADD_DEVICES)
    for device in (1, 1, 2):
        await older.execute(ENQUEUE, (device,))
    rows = await (await database.execute("SELECT device_id, by_schedule FROM analysis_requests ORDER BY id")).fetchall()
    assert rows == [(1, False), (2, False)]


async def test_queued_requests_of_ticks_are_those_of_schedules_after_the_migration(empty_database_url: str) -> None:
    async with await connect(empty_database_url, "test") as connection:
        await migrate(connection, migrations()[:BEFORE])
        await connection.execute(ADD_DEVICES)
        await connection.execute(
            "INSERT INTO analysis_requests (device_id, period, owner, status, finished_at) VALUES"
            " (1, '[,]', NULL, 'queued', NULL), (2, '[,]', NULL, 'queued', NULL), (3, '[,]', 'key', 'queued', NULL),"
            " (4, '[,]', NULL, 'done', now())"
        )
        await connection.execute(
            "INSERT INTO analysis_ticks SELECT 1, now() + n * interval '1 s', n FROM unnest(ARRAY[2, 3, 4]) n"
        )
        await migrate(connection)
        rows = await (await connection.execute("SELECT id FROM analysis_requests WHERE by_schedule")).fetchall()
    assert rows == [(2,)]
