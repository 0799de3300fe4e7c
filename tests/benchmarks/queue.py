"""The queue: small analyses a second of one worker, and the wait of a person's request behind those of schedules."""

import asyncio
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import httpx
import psycopg

from deploy.local.postgres import EmbeddedPostgres
from query_api.calendar.period import Period
from query_api.queue import claims
from query_api.queue.claiming import Turns
from query_api.queue.requests import Wanted, enqueue_all
from query_api.statistics.analysis import analyse
from shared.postgres.connections import Connection, connect
from tests.benchmarks.pairs import Finding, Ratio, target, warmed
from tests.command import argv, environment
from tests.ports import free_port
from tests.roles import url_as
from tests.waiting import eventually

DEVICES = range(3_000_000, 3_010_000)
READINGS = 50
"""Readings of each device."""
ANALYSES = 5_000
"""Analyses of a run."""
OTHERS = 500
"""Analyses of a run of another side."""
CONCURRENCY = 2
RATE = 500.0
PAIRS_OF_WAITS = 3
ALL_TIME = Period(None, None)
_FIRST = datetime(2026, 1, 1, tzinfo=UTC)
_FILL = """
    INSERT INTO devices (id, key, name)
    SELECT n, 'queue-' || n, 'queue' FROM generate_series(%(first)s::int, %(last)s) n;
    SELECT ensure_readings_partition(%(since)s);
    INSERT INTO device_extents
    SELECT n, %(since)s, %(since)s::timestamptz + interval '31 days'
    FROM generate_series(%(first)s::int, %(last)s) AS n;
    INSERT INTO readings (device_id, recorded_at, received_at, x, y, z)
    SELECT device, %(since)s::timestamptz + n * interval '1 minute', now(), random(), 100 * sin(n), n %% 7
    FROM generate_series(%(first)s::int, %(last)s) AS device, generate_series(1, %(readings)s) AS n
"""
_QUEUE = """
    INSERT INTO analysis_requests (device_id, period, by_schedule) SELECT n, '[,]', true
    FROM generate_series(%s::int, %s) n
"""
_ENDED = "SELECT count(*) FROM analysis_results"
_ONE_ENDED = "SELECT FROM analysis_requests WHERE id = %s AND status = 'done'"
_CLEAR = "TRUNCATE analysis_requests, analysis_results, analysis_callbacks, analysis_ticks"
_REMOVE = f"""
    {_CLEAR};
    DELETE FROM readings WHERE device_id >= %(first)s;
    DELETE FROM device_extents WHERE device_id >= %(first)s;
    DELETE FROM devices WHERE id >= %(first)s
"""  # noqa: S608  # constants
_FIGURES = ", ".join(
    f"jsonb_build_object('min', min({axis}), 'max', max({axis}), 'sum', sum({axis}), 'count', count({axis}), "
    f"'median', percentile_cont(0.5) WITHIN GROUP (ORDER BY {axis}))"
    for axis in "xyz"
)
_BY_SQL = f"""
    WITH done AS (
        UPDATE analysis_requests SET status = 'done', finished_at = now() WHERE id = %s RETURNING id, device_id
    )
    INSERT INTO analysis_results (request_id, device_id, x, y, z)
    SELECT done.id, done.device_id, figures.*
    FROM done CROSS JOIN LATERAL (SELECT {_FIGURES} FROM readings WHERE readings.device_id = done.device_id) AS figures
"""  # noqa: S608  # constants


def measure(postgres: EmbeddedPostgres) -> Iterator[Finding]:
    """Measure analyses per second, and the seconds of a wait."""
    with psycopg.connect(postgres.url, autocommit=True) as database:
        _execute(database, _FILL)
        database.execute("VACUUM ANALYZE")
        try:
            yield from _rates(postgres, database)
            yield from _waits(postgres)
        finally:
            _execute(database, _REMOVE)


def _rates(postgres: EmbeddedPostgres, database: psycopg.Connection) -> Iterator[Finding]:
    ours, earlier, sql = warmed(
        lambda: _rate(postgres, database),
        lambda: asyncio.run(_earlier_rate(postgres.url, database)),
        lambda: _sql_rate(database),
    )
    name, unit = f"queued analyses of {READINGS} readings, of one worker", "analyses/s"
    yield Ratio(name, "target", unit, ours, target(RATE), ">= 1")
    yield Ratio(name, "a claim and two commits for each", unit, ours, earlier)
    yield Ratio(name, "an SQL statement for each, one after another", unit, ours, sql)


def _waits(postgres: EmbeddedPostgres) -> Iterator[Finding]:
    waits = [asyncio.run(_waits_of_a_run(postgres)) for _ in range(PAIRS_OF_WAITS)]
    person, schedule, alone = (list(side) for side in zip(*waits, strict=True))
    name = f"a person's request behind {len(DEVICES):,} devices of schedules"
    yield Ratio(name, "the same request of a schedule", "s", person, schedule, "<= 0.1")
    yield Ratio(name, "with an empty queue", "s", person, alone)


def _execute(database: psycopg.Connection, statements: str) -> None:
    given = {"first": DEVICES[0], "last": DEVICES[-1], "since": _FIRST, "readings": READINGS}
    with psycopg.ClientCursor(database) as cursor:
        cursor.execute(statements.encode(), given)


def _fill_queue(database: psycopg.Connection, count: int) -> None:
    database.execute(_CLEAR)
    database.execute(_QUEUE, (DEVICES[0], DEVICES[0] + count - 1))
    database.execute("CHECKPOINT")


@contextmanager
def _worker(postgres: EmbeddedPostgres) -> Iterator[None]:
    """Run `devicestat work` for the block, once it is ready."""
    port = free_port()
    settings = environment(
        database_url=url_as(postgres.url, "worker"), worker_metrics_port=port, worker_concurrency=CONCURRENCY
    )
    with subprocess.Popen(argv("work"), env=settings, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            _await_ready(port)
            yield
        finally:
            process.terminate()


def _await_ready(port: int) -> None:
    while True:
        try:
            if httpx.get(f"http://127.0.0.1:{port}/health/ready").is_success:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.05)


def _rate(postgres: EmbeddedPostgres, database: psycopg.Connection) -> float:
    """Return analyses per second of a worker that is notified once all are queued."""
    database.execute(_CLEAR)
    with _worker(postgres):
        with database.transaction():
            database.execute(_QUEUE, (DEVICES[0], DEVICES[0] + ANALYSES - 1))
            database.execute("NOTIFY analysis_requests")
        began = time.perf_counter()
        while _ended(database) < ANALYSES:
            time.sleep(0.02)
        return ANALYSES / (time.perf_counter() - began)


def _ended(database: psycopg.Connection) -> int:
    row = database.execute(_ENDED).fetchone()
    assert row is not None
    return int(row[0])


async def _earlier_rate(url: str, database: psycopg.Connection) -> float:
    """Return analyses per second, each with a claim and an end of its own, CONCURRENCY at a time."""
    _fill_queue(database, OTHERS)

    async def run() -> None:
        async with await connect(url, "bench") as connection:
            turns = Turns()
            while held := await turns.claim(connection, 1):
                found = await analyse(connection, held[0].device_id, None, None)
                assert await claims.finish(connection, held[0], found)

    began = time.perf_counter()
    await asyncio.gather(*(run() for _ in range(CONCURRENCY)))
    return OTHERS / (time.perf_counter() - began)


def _sql_rate(database: psycopg.Connection) -> float:
    _fill_queue(database, OTHERS)
    ids = [row[0] for row in database.execute("SELECT id FROM analysis_requests ORDER BY id")]
    began = time.perf_counter()
    for request in ids:
        database.execute(_BY_SQL.encode(), (request,))
    return OTHERS / (time.perf_counter() - began)


async def _waits_of_a_run(postgres: EmbeddedPostgres) -> tuple[float, float, float]:
    """Return the seconds of a person's request and of a schedule's, with the backlog, and of a person's without."""
    async with await connect(postgres.url, "bench") as connection:
        waits = [await _wait(postgres, connection, *which) for which in ((True, False), (True, True), (False, False))]
    return waits[0], waits[1], waits[2]


async def _wait(postgres: EmbeddedPostgres, connection: Connection, has_backlog: bool, by_schedule: bool) -> float:
    """Return the seconds from the request until it is done. The device is the last one of the round."""
    await connection.execute(_CLEAR)
    with _worker(postgres):
        if has_backlog:
            await connection.execute(_QUEUE, (DEVICES[0], DEVICES[-2]))
            await connection.execute("NOTIFY analysis_requests")
            await eventually(lambda: _count(connection), lambda count: count > 0)
        began = time.perf_counter()
        async with connection.transaction():
            (request,) = await enqueue_all(connection, [Wanted(DEVICES[-1], ALL_TIME, by_schedule=by_schedule)])
        await eventually(lambda: connection.execute(_ONE_ENDED, (request,)), lambda found: found.rowcount == 1)
        return time.perf_counter() - began


async def _count(connection: Connection) -> int:
    row = await (await connection.execute(_ENDED)).fetchone()
    assert row is not None
    return int(row[0])
