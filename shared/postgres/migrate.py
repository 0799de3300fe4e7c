"""Schema migrations: `migrations/NNNN_name.sql`, each applied once, in order.

Each file runs in a transaction, which also writes its row of `schema_migrations`. An advisory lock serializes
concurrent `devicestat migrate`. An applied file is never edited; its SHA-256 is compared with the row.

Services may run meanwhile (`patience`).
"""

import hashlib
from collections.abc import Sequence
from functools import partial
from importlib import resources

import msgspec
from psycopg.errors import UndefinedTable

from shared.errors import DatabaseError, SchemaTooNew, SchemaTooOld
from shared.postgres.connections import Connection, refusals_translated
from shared.postgres.patience import patiently
from shared.postgres.roles import keep


class Migration(msgspec.Struct, frozen=True):
    """One numbered SQL file."""

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
_APPLIED = "SELECT version, checksum FROM schema_migrations ORDER BY version"
_RECORD = "INSERT INTO schema_migrations (version, name, checksum) VALUES (%s, %s, %s)"
_CURRENT_AND_COMING_MONTH = """
    SELECT ensure_readings_partition(now()), ensure_readings_partition(now() + interval '1 month')
"""


def migrations() -> list[Migration]:
    """Return the migrations of this version, in order."""
    folder = resources.files("shared.postgres") / "migrations"
    files = sorted((f for f in folder.iterdir() if f.name.endswith(".sql")), key=lambda f: f.name)
    return [Migration(int(f.name[:4]), f.name[5:-4], f.read_text(encoding="utf-8")) for f in files]


async def migrate(connection: Connection, known: Sequence[Migration] | None = None) -> list[Migration]:
    """Apply the missing migrations, and return them. Safe to run twice, and concurrently.

    `known`: the migrations to apply; None: all of this version. Raises SchemaTooNew if a later version has migrated the
    database, and DatabaseError if an applied file differs.
    """
    await check_search_path(connection)
    known = migrations() if known is None else known
    done: list[Migration] = []
    apply = partial(_apply_next, connection, known)
    while (step := await patiently(connection, "a migration", apply)) is not None:
        done.append(step)
    await keep(connection)
    await connection.execute(_CURRENT_AND_COMING_MONTH)
    return done


async def _apply_next(connection: Connection, known: Sequence[Migration]) -> Migration | None:
    await connection.execute(_LOCK)
    await connection.execute(_TABLE)
    applied: dict[int, str] = dict(await (await connection.execute(_APPLIED)).fetchall())
    _compare(applied, known)
    missing = [migration for migration in known if migration.version not in applied]
    if not missing:
        return None
    step = missing[0]
    await connection.execute(step.text.encode())  # a file of ours, without parameters
    await connection.execute(_RECORD, (step.version, step.name, step.checksum))
    return step


def _compare(applied: dict[int, str], known: Sequence[Migration]) -> None:
    newest = max(applied, default=0)
    if newest > known[-1].version:
        raise SchemaTooNew(newest, known[-1].version)
    for migration in known:
        if applied.get(migration.version, migration.checksum) != migration.checksum:
            raise DatabaseError(
                f"migration {migration.version:04} ({migration.name}) was applied with a different text "
                "than this version's: the database was created by an unreleased build. "
                "Save its data with pg_dump --data-only, and migrate an empty database"
            )


_SEARCH_PATH = "SELECT current_schema(), current_setting('search_path'), current_user"


async def check_search_path(connection: Connection) -> None:
    """Raise DatabaseError if the connection's search_path has no usable schema."""
    row = await (await connection.execute(_SEARCH_PATH)).fetchone()
    assert row is not None, "a SELECT without FROM has one row"
    schema, path, role = row
    if schema is None:
        raise DatabaseError(
            f"the search_path of {role} is {path}, which contains no existing schema that {role} may use: "
            f"create the schema, GRANT USAGE ON it, or ALTER ROLE {role} SET search_path to another"
        )


async def check_schema(connection: Connection) -> None:
    """Raise SchemaTooOld or SchemaTooNew unless the schema has this version's last migration."""
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
