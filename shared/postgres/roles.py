"""Roles of their own for the services: each may do in the database what its statements need, and nothing else (ADR 24).

`set_up` makes the roles and gives them what `privileges/*.sql` says: `months.sql` whose the months of readings are,
`services.sql` what each service may do, `database.sql` who may connect. `keep` gives it anew after migrations, where it
was set up. Without roles, everything works as the owner of the tables.

Roles are the server's, and not a database's: two databases with roles on one server have the same.
"""

from collections.abc import Mapping
from importlib import resources
from pathlib import Path

from psycopg import sql
from psycopg.errors import DuplicateObject, InternalError_, UniqueViolation

from shared.errors import DatabaseError, LocalError
from shared.postgres.connections import Connection

SERVICES = {"ingestor": "devicestat_ingestor", "api": "devicestat_api", "worker": "devicestat_worker"}
"""The role of each service. The worker's inherits nothing: what it may become, it becomes where it has to."""
_OPTIONS = {
    "devicestat_ingestor": "LOGIN",
    "devicestat_api": "LOGIN",
    "devicestat_worker": "LOGIN NOINHERIT",
    "devicestat_readings": "",
    "devicestat_partitions": "",
}
_FILES = ("months.sql", "services.sql", "database.sql")
TRIES = 5
"""Roles are the whole server's, and no lock of ours is: who makes them from another database at the same moment may
come before us."""
_CAME_FIRST = (DuplicateObject, UniqueViolation, InternalError_)  # the last one: "tuple concurrently updated"
_LOCK = """
    SELECT pg_advisory_xact_lock(hashtext('devicestat'), hashtext('roles')), set_config('lock_timeout', '30s', true)
"""


def read_passwords(directory: Path) -> dict[str, str]:
    """The password of each role, from the file with its service's name. Raises LocalError for all that are wrong."""
    passwords, faults = {}, []
    for service, role in SERVICES.items():
        try:
            passwords[role] = _password(directory / service)
        except LocalError as error:
            faults.append(str(error))
    if faults:
        raise LocalError("\n".join(faults))
    return passwords


def _password(file: Path) -> str:
    try:
        password = file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise LocalError(f"{file}, for a role's password, cannot be read: {reason}") from error
    if not password or not password.isprintable():
        raise LocalError(f"{file} is to hold a role's password: one line of printable characters")
    return password


async def set_up(connection: Connection, passwords: Mapping[str, str] | None = None) -> None:
    """Makes the roles where they are missing, and gives them exactly what they need. Safe to run twice, and at once.

    The schema is there, at its latest version; whose connection it is owns the database and has CREATEROLE, or is a
    superuser. `passwords`: by role; what is not given stays. Raises DatabaseError where a role may still do more.
    """
    for left in reversed(range(TRIES)):
        try:
            async with connection.transaction():
                await connection.execute(_LOCK)
                await make_roles(connection)
                await _give(connection)
                await set_passwords(connection, passwords or {})
        except _CAME_FIRST:
            if not left:
                raise
        else:
            return


_IN_USE = """
    SELECT EXISTS (SELECT FROM pg_class
                   WHERE oid = 'readings'::regclass AND relowner = to_regrole('devicestat_readings'))
"""


async def keep(connection: Connection) -> None:
    """Gives the roles what they need of what migrations have added, if they were set up in this database."""
    row = await (await connection.execute(_IN_USE)).fetchone()
    if row is not None and row[0]:
        async with connection.transaction():
            await connection.execute(_LOCK)
            await _give(connection)


_MISSING = "SELECT name FROM unnest(%s::text[]) AS name WHERE to_regrole(name) IS NULL"


async def make_roles(connection: Connection) -> None:
    """Makes those of the roles that are missing, in the transaction that the caller has open."""
    missing = await (await connection.execute(_MISSING, (list(_OPTIONS),))).fetchall()
    for (name,) in missing:
        await connection.execute(f"CREATE ROLE {name} {_OPTIONS[name]}".encode())  # constants, both


async def set_passwords(connection: Connection, passwords: Mapping[str, str]) -> None:
    """Sets the roles' passwords, in the transaction that the caller has open.

    The server gets verifiers (RFC 5803): what it logs of the statement holds no password.
    """
    for role, password in passwords.items():
        verifier = connection.pgconn.encrypt_password(password.encode(), role.encode(), b"scram-sha-256").decode()
        alter = sql.SQL("ALTER ROLE {} PASSWORD {}").format(sql.Identifier(role), sql.Literal(verifier))
        await connection.execute(alter)


async def _give(connection: Connection) -> None:
    for name in _FILES:
        await connection.execute(statements(name))
    excess = await (await connection.execute(_EXCESS)).fetchall()
    if excess:
        raise DatabaseError("\n".join(f"{role} {what}: {advice}" for role, what, advice in excess))


def statements(name: str) -> bytes:
    """A file of `privileges/`, to be run as it is. `database.sql` is what a copy of a database with roles lacks."""
    return (resources.files("shared.postgres") / "privileges" / name).read_bytes()


# What a role has that was there before us, or has of someone whose grants are not ours to take.
_EXCESS = """
    SELECT rolname, what, advice
    FROM pg_roles CROSS JOIN LATERAL (VALUES
        (rolsuper OR rolcreaterole OR rolcreatedb OR rolreplication OR rolbypassrls,
         'is a superuser, or may make roles or databases, replicate, or bypass row security',
         'take that away with ALTER ROLE … NOSUPERUSER NOCREATEROLE NOCREATEDB NOREPLICATION NOBYPASSRLS'),
        (has_schema_privilege(oid, current_schema()::regnamespace, 'CREATE') AND NOT rolsuper,
         'may make tables and functions in the schema ' || current_schema(),
         'have its owner REVOKE CREATE ON SCHEMA ' || quote_ident(current_schema()) || ' FROM PUBLIC'),
        (has_database_privilege(oid, current_database(), 'CREATE') AND NOT rolsuper,
         'may make schemas in this database',
         'have its owner REVOKE CREATE ON DATABASE ' || quote_ident(current_database()) || ' FROM PUBLIC'),
        (rolname = 'devicestat_worker' AND rolinherit AND NOT rolsuper,
         'has all that it may become',
         'ALTER ROLE devicestat_worker NOINHERIT')
    ) AS fault (is_there, what, advice)
    WHERE rolname IN ('devicestat_ingestor', 'devicestat_api', 'devicestat_worker') AND is_there
"""
