"""The cleaning round deletes rows past their retention, in bounded steps, and no other rows."""

from datetime import timedelta

import pytest
from psycopg.errors import InsufficientPrivilege

from query_api.worker.cleaning import (
    broker_outbox,
    expiring,
    requests,
    ticks,
)
from query_api.worker.cleaning.rounds import Cleaner, clean
from query_api.worker.cleaning.tables import RETENTION, cleaners
from shared.postgres.connections import connect
from shared.settings import Settings
from tests.conftest import Database
from tests.roles import url_as

_DEVICE = "INSERT INTO devices (id, key, name) VALUES (7, '7', 'n')"
_ENDED = """
    INSERT INTO analysis_requests (device_id, period, status, finished_at)
    SELECT 7, '[,]', 'done', now() - make_interval(days => day) FROM generate_series(1, %s) AS day
    RETURNING id
"""


async def numbers(database: Database, query: str) -> list[int]:
    return [row[0] for row in await (await database.execute(query.encode())).fetchall()]


async def test_requests_are_deleted_with_their_results_once_they_are_old_enough(
    database: Database, database_url: str
) -> None:
    await database.execute(_DEVICE)
    await database.execute(_ENDED, (10,))
    await database.execute(
        "INSERT INTO analysis_results (request_id, device_id, x, y, z)"
        " SELECT id, 7, '{}', '{}', '{}' FROM analysis_requests"
    )
    await database.execute(
        "INSERT INTO analysis_requests (device_id, period, created_at) VALUES (7, '[,]', '2020-1-1')"
    )
    async with await connect(url_as(database_url, "worker"), "worker") as worker:
        deleted = await clean(worker, cleaners(Settings(results_keep="5d")), pause_s=0)
    assert deleted["analysis_requests"] == 6
    assert await numbers(database, "SELECT id FROM analysis_requests ORDER BY id") == [1, 2, 3, 4, 11]
    assert await numbers(database, "SELECT request_id FROM analysis_results ORDER BY id") == [1, 2, 3, 4]


async def test_requests_of_latest_ticks_and_pending_callbacks_are_kept(database: Database) -> None:
    await database.execute(_DEVICE)
    await database.execute(_ENDED, (3,))
    await database.execute(
        "INSERT INTO analysis_schedules (device_id, cron, timezone, align, figures, last_tick)"
        " VALUES (7, '* * * * *', 'UTC', false, '{}', '2026-1-2')"
    )
    await database.execute("INSERT INTO analysis_ticks VALUES (1, '2026-1-1', 1), (1, '2026-1-2', 2)")
    await database.execute("INSERT INTO analysis_callbacks (request_id, url) VALUES (3, 'https://example.org')")
    assert await requests.delete_some(database, age=timedelta(hours=1)) == 1
    assert await numbers(database, "SELECT id FROM analysis_requests ORDER BY id") == [2, 3]
    assert await numbers(database, "SELECT request_id FROM analysis_ticks ORDER BY tick") == [None, 2]


async def test_a_step_is_bounded_and_skips_locked_rows(database: Database, database_url: str) -> None:
    await database.execute(_DEVICE)
    await database.execute(_ENDED, (10,))
    async with await connect(database_url, "other worker") as other, other.transaction():
        assert await requests.delete_some(other, age=timedelta(hours=1), limit=4) == 4
        assert await requests.delete_some(database, age=timedelta(hours=1), limit=4) == 4
        assert await requests.delete_some(database, age=timedelta(hours=1), limit=4) == 2
        assert await requests.delete_some(database, age=timedelta(hours=1), limit=4) == 0


async def test_the_cleaners_take_turns_and_a_round_ends(database: Database) -> None:
    steps: list[str] = []

    def cleaner(table: str, rows: list[int]) -> Cleaner:
        async def step(_: Database) -> int:
            steps.append(table)
            return rows.pop(0)

        return Cleaner(table, step)

    deleted = await clean(database, [cleaner("a", [2, 1, 0]), cleaner("b", [1, 0])], pause_s=0)
    assert steps == ["a", "b", "a", "b", "a"]
    assert deleted == {"a": 3, "b": 1}
    endless = cleaner("c", [1] * 10)
    assert await clean(database, [endless], passes=3, pause_s=0) == {"c": 3}


async def test_every_table_has_a_retention(database: Database) -> None:
    cursor = await database.execute(
        "SELECT relname FROM pg_class WHERE relnamespace = current_schema()::regnamespace"
        " AND relkind IN ('r', 'p') AND NOT relispartition"
    )
    assert sorted(RETENTION) == sorted([row[0] for row in await cursor.fetchall()])
    made = {cleaner.table for cleaner in cleaners(Settings(audit_keep="30d"))}
    assert made <= RETENTION.keys()


async def test_old_ticks_are_deleted_except_the_latest_of_a_schedule(database: Database) -> None:
    await database.execute(_DEVICE)
    await database.execute(
        "INSERT INTO analysis_schedules (device_id, cron, timezone, align, figures, last_tick)"
        " VALUES (7, '* * * * *', 'UTC', false, '{}', '2020-1-9'), (7, '* * * * *', 'UTC', false, '{}', now())"
    )
    await database.execute(
        "INSERT INTO analysis_ticks SELECT id, moment FROM analysis_schedules,"
        " generate_series(timestamptz '2020-1-1', '2020-1-9', '1 day') AS moment"
    )
    await database.execute("INSERT INTO analysis_ticks VALUES (2, now())")
    assert await ticks.delete_some(database, age=timedelta(days=400), limit=10) == 10
    assert await ticks.delete_some(database, age=timedelta(days=400), limit=10) == 7
    assert await ticks.delete_some(database, age=timedelta(days=400), limit=10) == 0
    assert await numbers(database, "SELECT schedule_id FROM analysis_ticks ORDER BY schedule_id") == [1, 2]


_AUDIT = """
    INSERT INTO audit_log (at, actor, origin, action, subject)
    SELECT now() - make_interval(days => day, hours => 1), 'a', 'o', 'device.created', 'device 7'
    FROM generate_series(0, 59) AS day
"""


async def test_old_entries_of_the_audit_log_are_deleted_and_an_entry_records_it(
    database: Database, database_url: str
) -> None:
    await database.execute(_AUDIT)
    async with await connect(url_as(database_url, "worker"), "worker") as worker:
        assert await expiring.expire_audit_log(worker, age=timedelta(days=40), limit=12) == 12
        assert await expiring.expire_audit_log(worker, age=timedelta(days=40), limit=12) == 8
        assert await expiring.expire_audit_log(worker, age=timedelta(days=40), limit=12) == 0
        with pytest.raises(InsufficientPrivilege, match="at least 30 days"):
            await expiring.expire_audit_log(worker, age=timedelta(days=29))
        with pytest.raises(InsufficientPrivilege):
            await worker.execute("SET devicestat.expire_audit = 'on'; DELETE FROM audit_log")
    cursor = await database.execute(
        "SELECT actor, database_role, detail ->> 'entries' FROM audit_log WHERE action = 'audit.expired' ORDER BY id"
    )
    assert await cursor.fetchall() == [
        ("retention", "devicestat_worker", "12"),
        ("retention", "devicestat_worker", "8"),
    ]
    assert await numbers(database, "SELECT count(*) FROM audit_log") == [60 - 20 + 2]
    with pytest.raises(InsufficientPrivilege, match="expire_audit_entries"):
        await database.execute("DELETE FROM audit_log")


async def test_entries_are_deleted_a_day_late_so_that_few_entries_record_it(database: Database) -> None:
    insert = "INSERT INTO audit_log (at, actor, origin, action, subject) SELECT now() - %s, 'a', 'o', 'x', 's'"
    await database.execute(insert, (timedelta(days=40, hours=23),))
    assert await expiring.expire_audit_log(database, age=timedelta(days=40)) == 0
    await database.execute(insert, (timedelta(days=41, hours=1),))
    assert await expiring.expire_audit_log(database, age=timedelta(days=40)) == 2


async def test_keys_that_ended_long_ago_are_deleted(database: Database, database_url: str) -> None:
    await database.execute(
        "INSERT INTO access_keys (prefix, hash, role, revoked_at, expires_at)"
        " SELECT n::text, sha256('x'), 'admin', revoked, expires FROM (VALUES"
        " (1, now() - interval '401 days', NULL), (2, NULL, now() - interval '401 days'), (3, NULL, NULL),"
        " (4, now() - interval '399 days', now() + interval '1 day'), (5, NULL, now() - interval '1 day')"
        ") AS given (n, revoked, expires)"
    )
    async with await connect(url_as(database_url, "worker"), "worker") as worker:
        assert await expiring.expire_keys(worker) == 2
    assert await numbers(database, "SELECT prefix::int FROM access_keys ORDER BY prefix") == [3, 4, 5]


async def test_the_journal_of_an_ended_session_is_deleted(database: Database, database_url: str) -> None:
    await database.execute(
        "INSERT INTO ingest_journal SELECT client, n, gen_random_uuid(), '', 0, 0, now() - age * interval '1 day'"
        " FROM (VALUES ('over', 91, 5), ('idle', 89, 5), ('z', 92, 2)) AS given (client, age, entries),"
        " generate_series(1, entries) AS n"
    )
    await database.execute("INSERT INTO ingest_journal VALUES ('busy', 1, gen_random_uuid(), '', 0, 0, '2020-1-1')")
    await database.execute("INSERT INTO ingest_journal VALUES ('busy', 2, gen_random_uuid(), '', 0, 0)")
    async with await connect(url_as(database_url, "worker"), "worker") as worker:
        assert [await expiring.expire_journals(worker, limit=3) for _ in range(4)] == [3, 3, 1, 0]
    cursor = await database.execute("SELECT client_id, count(*) FROM ingest_journal GROUP BY 1 ORDER BY 1")
    assert await cursor.fetchall() == [("busy", 2), ("idle", 5)]


async def test_the_filters_of_a_session_are_deleted_after_its_journal(database: Database, database_url: str) -> None:
    await database.execute(
        "INSERT INTO ingest_subscriptions SELECT client, 'devices/+/stats', now() - age * interval '1 day'"
        " FROM (VALUES ('over', 91), ('gone', 92), ('new', 89), ('busy', 91)) AS given (client, age)"
    )
    await database.execute("INSERT INTO ingest_journal VALUES ('busy', 1, gen_random_uuid(), '', 0, 0)")
    async with await connect(url_as(database_url, "worker"), "worker") as worker:
        assert [await expiring.expire_topic_filters(worker, limit=1) for _ in range(3)] == [1, 1, 0]
    cursor = await database.execute("SELECT client_id FROM ingest_subscriptions ORDER BY 1")
    assert await cursor.fetchall() == [("busy",), ("new",)]


async def test_the_outbox_keeps_the_newest_row_of_each_device(database: Database) -> None:
    await database.execute("INSERT INTO broker_outbox (device_id) SELECT n % 3 FROM generate_series(1, 9) AS n")
    assert [await broker_outbox.delete_some(database, limit=4) for _ in range(3)] == [4, 2, 0]
    assert await numbers(database, "SELECT number FROM broker_outbox ORDER BY number") == [7, 8, 9]
