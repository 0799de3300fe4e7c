"""The cleaning round deletes what is past its retention, a bounded number of rows at a time, and nothing else."""

from datetime import timedelta

from query_api.worker.cleaning import requests
from query_api.worker.cleaning.rounds import Cleaner, clean
from query_api.worker.cleaning.tables import cleaners
from shared.database import connect
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


async def test_what_a_schedule_shows_and_what_a_callback_waits_for_stays(database: Database) -> None:
    await database.execute(_DEVICE)
    await database.execute(_ENDED, (3,))
    await database.execute(
        "INSERT INTO analysis_schedules (device_id, cron, timezone, align, figures, last_tick)"
        " VALUES (7, '* * * * *', 'UTC', false, '{}', '2026-1-2')"
    )
    await database.execute("INSERT INTO analysis_ticks VALUES (1, '2026-1-1', 1), (1, '2026-1-2', 2)")
    await database.execute("INSERT INTO analysis_callbacks (request_id, url) VALUES (3, 'https://example.org')")
    assert await requests.delete_some(database, timedelta(hours=1)) == 1
    assert await numbers(database, "SELECT id FROM analysis_requests ORDER BY id") == [2, 3]
    assert await numbers(database, "SELECT request_id FROM analysis_ticks ORDER BY tick") == [None, 2]


async def test_a_step_is_bounded_and_passes_over_what_another_one_deletes(
    database: Database, database_url: str
) -> None:
    await database.execute(_DEVICE)
    await database.execute(_ENDED, (10,))
    async with await connect(database_url, "other worker") as other, other.transaction():
        assert await requests.delete_some(other, timedelta(hours=1), limit=4) == 4
        assert await requests.delete_some(database, timedelta(hours=1), limit=4) == 4
        assert await requests.delete_some(database, timedelta(hours=1), limit=4) == 2
        assert await requests.delete_some(database, timedelta(hours=1), limit=4) == 0


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
