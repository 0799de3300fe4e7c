"""Migrations are applied while services run, and while a long transaction such as a pg_dump reads the tables."""

import asyncio
from uuid import uuid4

import pytest

from shared.postgres import migrate as migrations
from shared.postgres.connections import connect
from shared.postgres.migrate import migrate
from tests.conftest import Database
from tests.waiting import HANG_S, eventually

_WAITING = """
    SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = to_regclass('ingest_journal')
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""
_WRITE = (
    "INSERT INTO ingest_journal (client_id, batch_no, writer, packets, stored, duplicates) VALUES (%s, 1, %s, '', 0, 0)"
)


async def migrated(url: str, version: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Migrate the database up to the version."""
    files = [file for file in migrations.migrations() if file.version <= version]
    async with await connect(url, "test") as connection:
        with monkeypatch.context() as patch:
            patch.setattr(migrations, "migrations", lambda: files)
            await migrate(connection)


async def is_awaited(database: Database) -> bool:
    row = await (await database.execute(_WAITING)).fetchone()
    assert row is not None
    return bool(row[0])


async def test_a_migration_that_waits_for_a_long_transaction_lets_others_write_meanwhile(
    empty_database_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    url = empty_database_url
    await migrated(url, 21, monkeypatch)
    async with await connect(url, "dump") as dump, await connect(url, "new") as new, await connect(url, "old") as old:
        async with dump.transaction():
            await dump.execute("SELECT FROM ingest_journal")
            migrating = asyncio.create_task(migrate(new), name="migrate")
            await eventually(lambda: is_awaited(old), bool)
            async with asyncio.timeout(HANG_S):
                await old.execute(_WRITE, ("one", uuid4()))
            assert not migrating.done()
        applied = await asyncio.wait_for(migrating, HANG_S)
    assert next(file.version for file in applied) == 22
    assert capsys.readouterr().out.count("a migration waits for another transaction") == 1
