"""The cheap part of the status: processes, queue, connections. It reads no readings."""

from collections.abc import Sequence
from datetime import datetime

import msgspec

from query_api.queue.pending import pending
from shared.postgres.connections import Connection
from shared.status import table
from shared.status.judging import Queue
from shared.status.table import Process


class Server(msgspec.Struct, frozen=True):
    """The server at the time of the database's clock.

    `oldest_s`: age in seconds of the oldest transaction that the API's role may see; None without one.
    """

    read_at: datetime
    connections: int
    max_connections: int
    oldest_s: float | None
    version: str


class Reading(msgspec.Struct, frozen=True):
    """The cheap part of the status."""

    server: Server
    processes: Sequence[Process]
    queue: Queue


# A role without pg_read_all_stats sees the ages of its own transactions only.
_SERVER = """
    SELECT now(), (SELECT sum(numbackends)::int FROM pg_stat_database), current_setting('max_connections')::int,
           (SELECT extract(epoch FROM clock_timestamp() - min(xact_start))::float8 FROM pg_stat_activity
            WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'),
           current_setting('server_version')
"""


async def read(connection: Connection) -> Reading:
    """Read the cheap part of the status."""
    processes, queue = await table.select(connection), await pending(connection)
    row = await (await connection.execute(_SERVER)).fetchone()
    assert row is not None, "a SELECT without FROM has one row"
    return Reading(Server(*row), processes, queue)
