"""Brings the database's schema up to date: `migrations/NNNN_name.sql`, each once, in order.

Each file runs in a transaction of its own, which also writes its row of `schema_migrations`. An advisory
lock makes any number of `devicestat migrate` at once do the work of one. A file that has been applied is
never edited; its SHA-256 is held against the row.

Services may run meanwhile. A file that waits for a table which a long transaction reads (a pg_dump, a report) makes
all later statements on the table wait, too. So it gives up after LOCK_TIMEOUT, and is tried again after a pause.
"""

import asyncio
import hashlib
from importlib import resources

import msgspec
import structlog
from psycopg.errors import DeadlockDetected, LockNotAvailable, UndefinedTable

from shared.errors import DatabaseError, SchemaTooNew, SchemaTooOld
from shared.postgres.connections import Connection, refusals_translated
from shared.postgres.roles import keep

LOCK_TIMEOUT = "1s"
LOCK_PAUSE_S = 2.0
"""Between two attempts to apply a file; services write to its tables in the pause."""

_log = structlog.get_logger()


class Migration(msgspec.Struct, frozen=True):
    """One numbered file."""

    version: int
    name: str
    text: str

    @property
    def checksum(self) -> str:
        return hashlib.sha256(self.text.encode()).hexdigest()


_TABLE = """
    CREATE TABLE IF NOT EXISTS schema_migrations (
        version    integer PRIMARY KEY,
        name       text NOT NULL,
        checksum   text NOT NULL,
        applied_at timestamptz NOT NULL DEFAULT now()
    )
"""
_LOCK = "SELECT pg_advisory_xact_lock(hashtext('devicestat'), hashtext('schema_migrations'))"
_PATIENCE = "SELECT set_config('lock_timeout', %s, true)"
_APPLIED = "SELECT version, checksum FROM schema_migrations ORDER BY version"
_RECORD = "INSERT INTO schema_migrations (version, name, checksum) VALUES (%s, %s, %s)"
_CURRENT_AND_COMING_MONTH = """
    SELECT ensure_readings_partition(now()), ensure_readings_partition(now() + interval '1 month')
"""


def migrations() -> list[Migration]:
    """The files that came with this version, in order."""
    folder = resources.files("shared.postgres") / "migrations"
    files = sorted((f for f in folder.iterdir() if f.name.endswith(".sql")), key=lambda f: f.name)
    return [Migration(int(f.name[:4]), f.name[5:-4], f.read_text(encoding="utf-8")) for f in files]


async def migrate(connection: Connection) -> list[Migration]:
    """Applies what is missing and returns it. Safe to run twice, and at once.

    Raises SchemaTooNew where a later version was here before, DatabaseError where an applied file differs.
    """
    await check_search_path(connection)
    known = migrations()
    done: list[Migration] = []
    while (step := await _apply_next_patiently(connection, known)) is not None:
        done.append(step)
    await keep(connection)
    await connection.execute(_CURRENT_AND_COMING_MONTH)
    return done


async def _apply_next_patiently(connection: Connection, known: list[Migration]) -> Migration | None:
    is_known = False
    while True:
        try:
            return await _apply_next(connection, known)
        except (LockNotAvailable, DeadlockDetected) as error:
            if not is_known:
                _log.warning("a migration waits for the end of another transaction", reason=error.diag.message_primary)
            is_known = True
            await asyncio.sleep(LOCK_PAUSE_S)


async def _apply_next(connection: Connection, known: list[Migration]) -> Migration | None:
    async with connection.transaction():
        await connection.execute(_LOCK)
        await connection.execute(_TABLE)
        applied: dict[int, str] = dict(await (await connection.execute(_APPLIED)).fetchall())
        _compare(applied, known)
        missing = [migration for migration in known if migration.version not in applied]
        if not missing:
            return None
        step = missing[0]
        await connection.execute(_PATIENCE, (LOCK_TIMEOUT,))
        await connection.execute(step.text.encode())  # a file of ours, without parameters
        await connection.execute(_RECORD, (step.version, step.name, step.checksum))
        return step


def _compare(applied: dict[int, str], known: list[Migration]) -> None:
    newest = max(applied, default=0)
    if newest > known[-1].version:
        raise SchemaTooNew(newest, known[-1].version)
    for migration in known:
        if applied.get(migration.version, migration.checksum) != migration.checksum:
            raise DatabaseError(
                f"migration {migration.version:04} ({migration.name}) was applied with another text "
                "than this version's: the database was made by a build that was never released. "
                "Keep what you need with pg_dump --data-only, and migrate an empty database"
            )


_SEARCH_PATH = "SELECT current_schema(), current_setting('search_path'), current_user"


async def check_search_path(connection: Connection) -> None:
    """Raises DatabaseError where the connection has no schema to find and make tables in."""
    row = await (await connection.execute(_SEARCH_PATH)).fetchone()
    assert row is not None, "a SELECT without FROM has one row"
    schema, path, role = row
    if schema is None:
        raise DatabaseError(
            f"the search_path of {role} is {path}, and it names no schema that is there and that {role} may use: "
            f"create the schema, GRANT USAGE ON it, or ALTER ROLE {role} SET search_path to another"
        )


async def check_schema(connection: Connection) -> None:
    """Raises SchemaTooOld or SchemaTooNew unless the schema is the one this version was written for."""
    need = migrations()[-1].version
    with refusals_translated():
        try:
            applied = await (await connection.execute(_APPLIED)).fetchall()
        except UndefinedTable:
            await check_search_path(connection)
            raise SchemaTooOld(0, need) from None
    have = max((version for version, _ in applied), default=0)
    if have < need:
        raise SchemaTooOld(have, need)
    if have > need:
        raise SchemaTooNew(have, need)
