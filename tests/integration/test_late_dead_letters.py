"""An ingestor of the version before writes dead letters after the migration: it must not stand still for them."""

from shared.postgres.connections import connect
from tests.command import run
from tests.conftest import Database
from tests.letters import left
from tests.roles import url_as

# As versions before migration 10 write them.
_COPY = "COPY dead_letters (received_at, topic, content_type, payload, reason, detail) FROM STDIN"
_GOOD = b'[{"x":1,"y":0,"z":0},{"x":2,"y":0,"z":0}]'


async def test_dead_letters_of_an_older_ingestor_are_kept_and_replayed(database: Database, database_url: str) -> None:
    await database.execute("INSERT INTO devices (key, name) VALUES ('1', 'press')")
    async with (
        await connect(url_as(database_url, "ingestor"), "old ingestor") as old,
        old.transaction(),
        old.cursor() as cursor,
        cursor.copy(_COPY) as copy,
    ):
        await copy.write_row(("2026-01-31 12:00Z", "devices/1/stats", None, _GOOD, "unknown_device", "no device"))
        await copy.write_row(("2026-01-31 12:01Z", "devices/1/stats", None, b"5", "invalid_reading", "a number"))
    shown = run("dead-letters", "show", 2, database_url=database_url).stdout
    assert "1 invalid_reading" in shown
    assert "a number" in shown
    replayed = run("dead-letters", "replay", database_url=database_url).stdout.splitlines()
    assert replayed[0] == "1  2 readings stored"
    assert left(database_url) == [2]
