"""Migrations are applied while services run, and while a long transaction such as a pg_dump reads the tables."""

import asyncio
from uuid import uuid4

import pytest

from shared.postgres import migrate as migrations
from shared.postgres.connections import connect
from shared.postgres.migrate import migrate
from shared.postgres.patience import LOCK_PAUSE_S
from shared.postgres.roles import set_up
from tests import locks
from tests.waiting import HANG_S, eventually

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


async def test_a_migration_that_waits_for_a_long_transaction_lets_others_write_meanwhile(
    empty_database_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    url = empty_database_url
    await migrated(url, 21, monkeypatch)
    async with await connect(url, "dump") as dump, await connect(url, "new") as new, await connect(url, "old") as old:
        async with dump.transaction():
            await dump.execute("SELECT FROM ingest_journal")
            migrating = asyncio.create_task(migrate(new), name="migrate")
            await eventually(lambda: locks.waiting(old, "ingest_journal"), bool)
            async with asyncio.timeout(HANG_S):
                await old.execute(_WRITE, ("one", uuid4()))
            assert not migrating.done()
        applied = await asyncio.wait_for(migrating, HANG_S)
    assert next(file.version for file in applied) == 22
    assert capsys.readouterr().out.count("a migration waits for another transaction") == 1


@pytest.mark.parametrize("version", [26, 28])
async def test_an_index_is_built_once_beside_a_long_transaction(
    empty_database_url: str, version: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its table cannot be written while it is built, so the migration must not wait for a lock afterwards."""
    await migrated(empty_database_url, version - 1, monkeypatch)
    async with await connect(empty_database_url, "dump") as dump, dump.transaction():
        await dump.execute("SELECT FROM devices")
        await dump.execute("SELECT FROM blocks")
        async with asyncio.timeout(HANG_S):
            await migrated(empty_database_url, version, monkeypatch)
        newest = await (await dump.execute("SELECT max(version) FROM schema_migrations")).fetchone()
    assert newest == (version,)


_STORE = """
    SELECT store_readings(array[1], array[1::bigint], array[now()], array[now()], array[1.0], array[2.0], array[3.0])
"""


async def test_roles_are_set_up_while_services_store_readings(empty_database_url: str) -> None:
    """The set-up held readings and waited for its sequence, store_readings the other way round: a deadlock. While it
    waited for a long transaction, nothing was stored."""
    url = empty_database_url
    stored = 0
    async with await connect(url, "dump") as dump, await connect(url, "new") as new, await connect(url, "old") as old:
        await migrate(new)
        await old.execute("INSERT INTO devices (id, key, name) VALUES (1, 'one', 'one')")

        async def store() -> None:
            nonlocal stored
            while True:
                await old.execute(_STORE)
                stored += 1

        storing = asyncio.create_task(store(), name="store")
        try:
            async with dump.transaction():
                await dump.execute("SELECT FROM readings")
                setting_up = asyncio.create_task(set_up(new), name="set up")
                for _ in range(3):
                    already = stored
                    await eventually(lambda: asyncio.sleep(0, stored), lambda count, least=already: count > least + 50)
                    await asyncio.sleep(LOCK_PAUSE_S / 2)
                assert not setting_up.done()
            await asyncio.wait_for(setting_up, HANG_S)
        finally:
            storing.cancel()
            await asyncio.wait([storing])
        owner = await (await new.execute("SELECT tableowner FROM pg_tables WHERE tablename = 'readings'")).fetchone()
    assert owner == ("devicestat_readings",)
