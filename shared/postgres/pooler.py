"""Detection of a connection pooler that does not give each client a server connection of its own.

Devicestat needs the same server connection for as long as a connection is open: for its settings, prepared statements,
LISTEN, temporary tables and advisory locks. PgBouncer keeps it with `pool_mode = session`. With `transaction` or
`statement` it gives each transaction to any server connection that is free: then a prepared statement is missing, or is
another client's (https://www.pgbouncer.org/features.html).
"""

from psycopg.errors import DuplicatePreparedStatement, InvalidSqlStatementName, ProtocolViolation

from shared.errors import DatabaseError
from shared.postgres.connections import Connection, address, connect, refusals_translated

ROUNDS = 5
"""On a busy pooler one round may see nothing: other clients take the server connections that it asks for."""
_SERVER = "SELECT pg_backend_pid()"
_SIGNS = (ProtocolViolation, InvalidSqlStatementName, DuplicatePreparedStatement)
"""Statement mode takes no BEGIN. In transaction mode, a statement that the connection prepared is missing on the next
server connection, or another client's is there."""


class _IsShared(Exception):
    """Two connections, or two statements of one, met where only a shared server connection lets them meet."""


async def check_pooler(connection: Connection, url: str) -> None:
    """Raises DatabaseError unless the server connection belongs to this connection alone.

    PostgreSQL tells each connection the process id of its server process. A pooler makes up an id of its own, so a
    direct connection costs one query here. Behind a pooler, a second connection holds in a transaction whatever server
    connection it gets, and both ask which theirs is.
    """
    if not await is_pooled(connection):
        return
    try:
        async with await connect(url, "pooler check") as other:
            for _ in range(ROUNDS):
                await _compare(connection, other)
    except (_IsShared, *_SIGNS):
        raise DatabaseError(
            f"the connection pooler at {address(url)} gives the transactions of a client to several server "
            "connections: set pool_mode = session for this database in pgbouncer.ini, or let "
            "DEVICESTAT_DATABASE_URL name PostgreSQL itself"
        ) from None


async def is_pooled(connection: Connection) -> bool:
    """Whether a connection pooler stands between this connection and PostgreSQL."""
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
