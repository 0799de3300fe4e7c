"""Database roles of the services: each has the privileges that its statements need, and no others (ADR 24).

`set_up` creates the roles and grants the privileges in `privileges/*.sql`: `months.sql` sets the owner of the months of
readings, `services.sql` has the privileges of each service, and `database.sql` the privilege to connect. After
migrations, `keep` grants them again if the roles exist. Without roles, all services run as the owner of the tables.

Roles belong to the server: two databases on one server share them.
"""

from collections.abc import Iterable, Mapping
from importlib import resources
from pathlib import Path

from psycopg import sql
from psycopg.errors import DuplicateObject, InternalError_, UniqueViolation

from shared.errors import DatabaseError, LocalError
from shared.postgres.connections import Connection
from shared.postgres.patience import patiently

SERVICES = {"ingestor": "devicestat_ingestor", "api": "devicestat_api", "worker": "devicestat_worker"}
"""The role of each service. The worker's role inherits no privileges; it uses SET ROLE where it needs them."""
_OPTIONS = {
    "devicestat_ingestor": "LOGIN",
    "devicestat_api": "LOGIN",
    "devicestat_worker": "LOGIN NOINHERIT",
    "devicestat_readings": "",
    "devicestat_partitions": "",
}
_FILES = ("months.sql", "services.sql", "database.sql")
TRIES = 5
"""Attempts: the advisory lock belongs to one database, so a set-up in another one may create the same roles
concurrently."""
_CAME_FIRST = (DuplicateObject, UniqueViolation, InternalError_)  # the last one: "tuple concurrently updated"
_LOCK = "SELECT pg_advisory_xact_lock(hashtext('devicestat'), hashtext('roles'))"


def read_passwords(directory: Path) -> dict[str, str]:
    """Read each role's password from the file named like its service. Raises LocalError with all faults."""
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
        raise LocalError(f"{file}, which should contain a role's password, cannot be read: {reason}") from error
    if not password or not password.isprintable():
        raise LocalError(f"{file} must contain a role's password: one line of printable characters")
    return password


async def set_up(connection: Connection, passwords: Mapping[str, str] | None = None) -> None:
    """Create missing roles, and grant exactly the privileges that they need. Safe to run twice, and concurrently.

    The schema must be at its latest version. The connection's role must own the database and have CREATEROLE, or be a
    superuser. `passwords`: by role; others are unchanged. Raises DatabaseError if a role has excess privileges.
    """

    async def change() -> None:
        await connection.execute(_LOCK)
        await make_roles(connection)
        await _give(connection)
        await set_passwords(connection, passwords or {})

    await complete_nodes(connection)
    for left in reversed(range(TRIES)):
        try:
            await patiently(connection, "the set-up of roles", change)
        except _CAME_FIRST:
            if not left:
                raise
        else:
            return


_IN_USE = """
    SELECT EXISTS (SELECT FROM pg_class
                   WHERE oid = 'readings'::regclass
                     AND relowner IN (to_regrole('devicestat_readings'), to_regrole('devicestat_partitions')))
"""


async def keep(connection: Connection) -> None:
    """Grant the roles privileges on what migrations have added, if roles were set up in this database."""
    row = await (await connection.execute(_IN_USE)).fetchone()
    if row is not None and row[0]:

        async def change() -> None:
            await connection.execute(_LOCK)
            await _give(connection)

        await complete_nodes(connection)
        await patiently(connection, "the granting of privileges", change)


_HAS_CITUS = "SELECT EXISTS (SELECT FROM pg_extension WHERE extname = 'citus')"
_COMPLETE = """
    SELECT nodename || ':' || nodeport, result FROM pg_roles CROSS JOIN LATERAL run_command_on_workers(format($command$
        DO $do$ BEGIN
            PERFORM set_config('citus.enable_ddl_propagation', 'off', true);
            IF to_regrole(%%1$L) IS NULL THEN
                CREATE ROLE %%1$I LOGIN %%2$s;
            END IF;
        EXCEPTION WHEN duplicate_object OR unique_violation THEN  -- another database came first
        END $do$ $command$, rolname, CASE WHEN rolinherit THEN 'INHERIT' ELSE 'NOINHERIT' END))
    WHERE rolname = ANY (%s) AND NOT success
"""


async def complete_nodes(connection: Connection, roles: Iterable[str] = tuple(_OPTIONS)) -> None:
    """Create the roles that a node of a Citus cluster lacks: Citus does not pass on all that were made before it.

    Not in a transaction that has created them. Raises DatabaseError if a node refuses.
    """
    row = await (await connection.execute(_HAS_CITUS)).fetchone()
    if row is not None and row[0]:
        for node, result in await (await connection.execute(_COMPLETE, (list(roles),))).fetchall():
            raise DatabaseError(f"the roles of the services cannot be created on {node}: {result}")


_MISSING = "SELECT name FROM unnest(%s::text[]) AS name WHERE to_regrole(name) IS NULL"


async def make_roles(connection: Connection) -> None:
    """Create the missing roles, in the caller's transaction."""
    missing = await (await connection.execute(_MISSING, (list(_OPTIONS),))).fetchall()
    for (name,) in missing:
        await connection.execute(f"CREATE ROLE {name} {_OPTIONS[name]}".encode())  # constants, both


async def set_passwords(connection: Connection, passwords: Mapping[str, str]) -> None:
    """Set the roles' passwords, in the caller's transaction.

    The server gets verifiers (RFC 5803), so the statement in its log contains no password.
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
    """Return the SQL of a file of `privileges/`. A restored copy of a database lacks only `database.sql`."""
    return (resources.files("shared.postgres") / "privileges" / name).read_bytes()


# Excess privileges: of a role that existed before, or granted by a role whose grants cannot be revoked here.
_EXCESS = """
    SELECT rolname, what, advice
    FROM pg_roles CROSS JOIN LATERAL (VALUES
        (rolsuper OR rolcreaterole OR rolcreatedb OR rolreplication OR rolbypassrls,
         'is a superuser, or may create roles or databases, replicate, or bypass row security',
         'remove this with ALTER ROLE … NOSUPERUSER NOCREATEROLE NOCREATEDB NOREPLICATION NOBYPASSRLS'),
        (has_schema_privilege(oid, current_schema()::regnamespace, 'CREATE') AND NOT rolsuper,
         'may create tables and functions in the schema ' || current_schema(),
         'let its owner REVOKE CREATE ON SCHEMA ' || quote_ident(current_schema()) || ' FROM PUBLIC'),
        (has_database_privilege(oid, current_database(), 'CREATE') AND NOT rolsuper,
         'may create schemas in this database',
         'let its owner REVOKE CREATE ON DATABASE ' || quote_ident(current_database()) || ' FROM PUBLIC'),
        (rolname = 'devicestat_worker' AND rolinherit AND NOT rolsuper,
         'inherits the privileges of its roles',
         'ALTER ROLE devicestat_worker NOINHERIT')
    ) AS fault (is_there, what, advice)
    WHERE rolname IN ('devicestat_ingestor', 'devicestat_api', 'devicestat_worker') AND is_there
"""
