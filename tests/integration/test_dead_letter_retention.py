"""Dead letters are deleted by age and by size, with the role of the worker, in bounded steps."""

from datetime import UTC, datetime, timedelta

from query_api.worker.cleaning import dead_letters
from query_api.worker.cleaning.dead_letters import BySize, newest_to_delete
from query_api.worker.cleaning.rounds import clean
from query_api.worker.cleaning.tables import cleaners
from shared.postgres.connections import connect
from shared.settings import Settings
from tests.conftest import Database
from tests.letters import keep, left, letter
from tests.roles import url_as

ROW_BYTES = 1000 + len("devices/1/stats")
NO_BOUNDS = {"dead_letters_keep": "none", "dead_letters_max_bytes": "none"}
_MANY = """
    INSERT INTO dead_letters (received_at, topic, payload, reason, detail, payload_bytes, reasons, faults)
    SELECT now() - make_interval(secs => n), 'devices/1/stats', '', 'malformed', '', 0, '{"malformed": 1}', '[]'
    FROM generate_series(1, 50000) AS n
"""


async def aged(url: str, *days: int, payload: bytes = b"") -> str:
    """Add dead letters of these ages, with ids 1, 2, …. Return the URL for the worker."""
    now = datetime.now(UTC)
    await keep(url, [letter("devices/1/stats", payload, received_at=now - timedelta(days=age)) for age in days])
    return url_as(url, "worker")


async def cleaned(url: str, **settings: str) -> int:
    """Return the dead letters that one round deletes."""
    async with await connect(url, "worker") as worker:
        return (await clean(worker, cleaners(Settings(**{**NO_BOUNDS, **settings})), pause_s=0))["dead_letters"]


async def test_dead_letters_older_than_the_setting_are_deleted(database_url: str) -> None:
    worker = await aged(database_url, 91, 89, 200, 0)
    assert await cleaned(worker) == 0
    assert await cleaned(worker, dead_letters_keep="90d") == 2
    assert left(database_url) == [2, 4]


async def test_the_oldest_beyond_the_size_are_deleted(database_url: str) -> None:
    worker = await aged(database_url, 3, 1, 4, 2, payload=bytes(5000))
    size = 2 * (ROW_BYTES + 5000)
    assert await cleaned(worker, dead_letters_max_bytes=str(4 * (ROW_BYTES + 5000))) == 0
    assert await cleaned(worker, dead_letters_max_bytes=str(size)) == 2
    assert left(database_url) == [2, 4]
    assert await cleaned(worker, dead_letters_max_bytes=str(size)) == 0
    assert await cleaned(worker, dead_letters_max_bytes=str(size - 1)) == 1
    assert left(database_url) == [2]


async def test_deleted_dead_letters_do_not_count(database_url: str, database: Database) -> None:
    """The files keep their size, by which a second round would delete more."""
    worker = await aged(database_url, *range(100), payload=b"not compressed")
    assert await cleaned(worker, dead_letters_max_bytes="50kB") > 0
    kept = left(database_url)
    await database.execute("VACUUM dead_letters")
    assert await cleaned(worker, dead_letters_max_bytes="50kB") == 0
    assert left(database_url) == kept == list(range(1, 49))


async def test_a_step_is_bounded_and_skips_a_dead_letter_in_replay(database_url: str, database: Database) -> None:
    worker = await aged(database_url, *range(10))
    by_size = BySize(5 * ROW_BYTES)
    async with await connect(worker, "worker") as connection, database.transaction():
        await database.execute("SELECT FROM dead_letters WHERE id = 10 FOR UPDATE")
        assert await by_size.delete_some(connection, limit=3) == 3
        assert await by_size.delete_some(connection, limit=3) == 1
    assert left(database_url) == [1, 2, 3, 4, 5, 10]


async def test_the_size_is_computed_from_an_index_up_to_the_bound(database: Database) -> None:
    await database.execute(_MANY)
    await database.execute("VACUUM ANALYZE dead_letters")
    plan = await explained(database, 100 * ROW_BYTES)
    assert "Index Only Scan Backward using dead_letters_by_age" in plan
    assert "rows=101" in plan
    assert "Heap Fetches: 0" in plan


async def explained(database: Database, size: int) -> str:
    explain = "EXPLAIN (ANALYZE, TIMING OFF) " + dead_letters._NEWEST_TO_DELETE
    lines = await (await database.execute(explain.encode(), {"size": size})).fetchall()
    assert await newest_to_delete(database, size) is not None
    return "\n".join(line for (line,) in lines)
