"""Detection of a connection pooler that shares server connections between clients.

Devicestat needs one server connection for each of its connections: for session settings, prepared statements, LISTEN,
temporary tables and advisory locks. PgBouncer provides that with `pool_mode = session`. With `transaction` or
`statement` it runs each transaction on any free server connection, where a prepared statement may be missing or belong
to another client (https://www.pgbouncer.org/features.html).
"""

from psycopg.errors import DuplicatePreparedStatement, InvalidSqlStatementName, ProtocolViolation

from shared.errors import DatabaseError
from shared.postgres.connections import Connection, address, connect, refusals_translated

ROUNDS = 5
"""Rounds of the test: on a busy pooler one round may be inconclusive, because other clients use its connections."""
_SERVER = "SELECT pg_backend_pid()"
_SIGNS = (ProtocolViolation, InvalidSqlStatementName, DuplicatePreparedStatement)
"""Errors in the other modes. Statement mode refuses BEGIN. In transaction mode a prepared statement may be missing on
the next server connection, or exist there for another client."""


class _IsShared(Exception):
    """Two connections have used one server connection, or one connection has used two."""


async def check_pooler(connection: Connection, url: str) -> None:
    """Raise DatabaseError unless the server connection belongs to this connection alone.

    PostgreSQL sends each connection the id of its server process; a pooler sends an invented one. So a direct
    connection costs one query. Behind a pooler, a second connection holds its server connection in a transaction, and
    both compare the ids of their server processes.
    """
    if not await is_pooled(connection):
        return
    try:
        async with await connect(url, "pooler check") as other:
            for _ in range(ROUNDS):
                await _compare(connection, other)
    except (_IsShared, *_SIGNS):
        raise DatabaseError(
            f"the connection pooler at {address(url)} distributes the transactions of a client over several server "
            "connections: set pool_mode = session for this database in pgbouncer.ini, or let "
            "DEVICESTAT_DATABASE_URL name PostgreSQL itself"
        ) from None


async def is_pooled(connection: Connection) -> bool:
    """Return whether a connection pooler is between this connection and PostgreSQL."""
    with refusals_translated():
        return await _server(connection) != connection.info.backend_pid


async def _compare(connection: Connection, other: Connection) -> None:
    mine = await _server(connection)
    if await _server(other) == mine:
        raise _IsShared
    async with other.transaction():
        if await _server(other) == mine or await _server(connection) != mine:
            raise _IsShared


async def _server(connection: Connection) -> int:
    row = await (await connection.execute(_SERVER)).fetchone()
    assert row is not None, "a SELECT without FROM has one row"
    number: int = row[0]
    return number
