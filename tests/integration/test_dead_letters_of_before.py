"""Dead letters from before migration 10, a row for each refused element: they are listed, shown and replayed."""

import pytest

from shared.postgres.connections import connect
from shared.postgres.migrate import migrate, migrations
from tests.command import run
from tests.letters import left

_ADD = """
    INSERT INTO dead_letters (received_at, topic, payload, reason, detail) VALUES
        ('2026-01-31 12:00Z', 'devices/1/stats', '[{"x":1,"y":0,"z":0},{"x":1,"y":0,"z":0}]',
         'unknown_device', 'no device'),
        ('2026-01-31 12:01Z', 'devices/1/stats', '{"x":"5","y":0,"z":0}', 'invalid_reading', 'x: a string')
"""


@pytest.fixture
async def old_url(empty_database_url: str) -> str:
    """The URL of a database that was migrated with dead letters of version 9 in it."""
    async with await connect(empty_database_url, "test") as connection:
        await migrate(connection, [migration for migration in migrations() if migration.version < 10])
        await connection.execute(_ADD)
        await migrate(connection)
        await connection.execute("INSERT INTO devices (key, name) VALUES ('1', 'press')")
    return empty_database_url


def test_they_are_listed_shown_and_replayed(old_url: str) -> None:
    listed = run("dead-letters", "list", "--reason", "unknown_device", database_url=old_url).stdout
    assert "1 of 1 dead letter (1 refused reading)" in listed
    shown = run("dead-letters", "show", 2, database_url=old_url).stdout
    assert "x: a string" in shown
    assert "1 invalid_reading" in shown
    replayed = run("dead-letters", "replay", database_url=old_url).stdout.splitlines()
    assert replayed[0] == "1  2 readings stored"
    assert replayed[1].startswith("2  refused again: invalid_reading")
    assert left(old_url) == [2]
