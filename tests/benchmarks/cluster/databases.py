"""Two databases on one coordinator: a plain one, and one that is distributed over the nodes of the cluster."""

import asyncio
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import msgspec
import psycopg
from psycopg import sql

from shared.postgres.connections import connect
from shared.postgres.distribution import distribute
from shared.postgres.migrate import migrate
from shared.postgres.roles import set_up
from tests import citus
from tests.roles import let_roles_in, make_roles

SHARDS = 8
NAMES = "bench_plain", "bench_distributed"


class Databases(msgspec.Struct, frozen=True):
    """The URLs of the two databases, as a superuser."""

    plain: str
    distributed: str


@contextmanager
def databases(server: str, shards: int = SHARDS) -> Iterator[Databases]:
    """Create, migrate and distribute them for the block."""
    for node in citus.nodes(server):
        asyncio.run(make_roles(node))
    _drop(server)
    try:
        found = Databases(*(citus.at(server, name) for name in NAMES))
        _create(server, NAMES[0])
        for node in citus.nodes(server):
            _create(node, NAMES[1])
        citus.form_cluster(found.distributed)
        asyncio.run(_migrate(found.plain))
        asyncio.run(_migrate(found.distributed, shards))
        yield found
    finally:
        _drop(server)


def _create(server: str, name: str) -> None:
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(name)))


def _drop(server: str) -> None:
    for node in reversed(citus.nodes(server)):  # the coordinator first, which connects to the others
        for name in NAMES:
            citus.drop(node, name)


async def _migrate(url: str, shards: int | None = None) -> None:
    async with await connect(url, "bench") as connection:
        await migrate(connection)
        await set_up(connection)
        if shards is not None:
            await distribute(connection, shards)
    let_roles_in(url)


_SEE_SHARDS = "-c citus.override_table_visibility=off"


def ask(url: str, statement: str) -> tuple[Any, ...]:
    """Return the first row of a statement's result, which may have none. It sees the shards of a node."""
    with psycopg.connect(url, autocommit=True, options=_SEE_SHARDS) as database:
        cursor = database.execute(statement.encode())
        return tuple(cursor.fetchone() or ()) if cursor.description else ()


def ask_where_stored(url: str, statement: str) -> list[tuple[Any, ...]]:
    """Ask each node of a distributed database, or the plain one."""
    (is_distributed,) = ask(url, "SELECT is_distributed()")
    return [ask(node, statement) for node in (citus.nodes(url) if is_distributed else [url])]


_CLEAR = "TRUNCATE readings, ingest_journal RESTART IDENTITY"


def clear(url: str) -> None:
    """Remove the readings, and write a checkpoint on each node, so that they do not affect the next measurement."""
    ask(url, _CLEAR)
    for server in citus.nodes(citus.at(url, "postgres")):
        ask(server, "CHECKPOINT")


_VERSION = "SELECT current_setting('server_version'), extversion FROM pg_extension WHERE extname = 'citus'"
_DURABILITY = "SELECT string_agg(name || ' ' || setting, ', ' ORDER BY name) FROM pg_settings WHERE name = ANY "
_DURABLE = "('{fsync,synchronous_commit,full_page_writes}')"


def described(given: Databases) -> str:
    """Return the cluster, its versions, the durability of each node, and the load of the machine."""
    version, extension = ask(given.distributed, _VERSION)
    durability = {ask(node, _DURABILITY + _DURABLE)[0] for node in citus.nodes(given.distributed)}
    return (
        f"cluster: {SHARDS} shards on {len(citus.WORKERS)} nodes and a coordinator, all on this machine; "
        f"PostgreSQL {version}, Citus {extension}; {' or '.join(sorted(durability))}; "
        f"a load average of {os.getloadavg()[0]:.1f} at the start"
    )
