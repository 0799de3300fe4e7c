"""A Citus cluster for the tests: DEVICESTAT_TEST_CITUS_WORKERS=host:port,… beside DEVICESTAT_TEST_DATABASE_URL.

The URL names the coordinator, as a superuser that each node lets in from each other without a password. A template is
distributed once, and cloned on each node under one name. Object ids and shards are equal then, and Citus connects to
other nodes by the name of the current database. Its daemon is kept out of the template, which could not be cloned else.
"""

import asyncio
import os
import shlex
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import partial
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest
from psycopg import sql
from psycopg.errors import ObjectInUse

WORKERS = [worker for worker in os.environ.get("DEVICESTAT_TEST_CITUS_WORKERS", "").split(",") if worker]
SHARDS = 4


def nodes(url: str) -> list[str]:
    """Return the URL of the database on each node, the coordinator last."""
    parts = urlsplit(url)
    login = parts.netloc.rpartition("@")[0]
    return [*(urlunsplit(parts._replace(netloc=f"{login}@{worker}")) for worker in WORKERS), url]


def at(url: str, database: str) -> str:
    """Return the URL of another database on the same server."""
    return urlunsplit(urlsplit(url)._replace(path=f"/{database}"))


@contextmanager
def alone(server: str) -> Iterator[None]:
    """Let no other process form a cluster on this server in the block: both would write the roles of all nodes."""
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute("SELECT pg_advisory_lock(hashtext('forming a cluster'))")
        yield


def form_cluster(url: str) -> None:
    """Create the extension in the database on each node, and add the nodes to the coordinator."""
    for node in nodes(url):
        with psycopg.connect(node, autocommit=True) as connection:
            connection.execute("CREATE EXTENSION IF NOT EXISTS citus")
    with psycopg.connect(url, autocommit=True) as connection:
        parts = urlsplit(url)
        connection.execute("SELECT citus_set_coordinator_host(%s, %s)", (parts.hostname, parts.port or 5432))
        for worker in WORKERS:
            host, _, port = worker.rpartition(":")
            connection.execute("SELECT citus_add_node(%s, %s)", (host, int(port)))


_END_ALL = "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE datname = %s"


def freeze(server: str, database: str) -> None:
    """Let nobody connect to the database, so that it can be cloned."""
    forbid = sql.SQL("ALTER DATABASE {} WITH ALLOW_CONNECTIONS false").format(sql.Identifier(database))
    for node in nodes(server):
        with psycopg.connect(node, autocommit=True) as connection:
            connection.execute(forbid)
            while connection.execute(_END_ALL, (database,)).fetchall():
                pass


@contextmanager
def cloned(server: str, database: str, template: str) -> Iterator[None]:
    """Clone the template on each node for the block."""
    create = sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY file_copy").format(
        sql.Identifier(database), sql.Identifier(template)
    )
    try:
        with ThreadPoolExecutor() as threads:
            list(threads.map(lambda node: _execute(node, create), nodes(server)))
        yield
    finally:
        for node in reversed(nodes(server)):  # the coordinator first: its daemon connects to the others
            drop(node, database)


def _execute(url: str, statement: sql.Composed) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(statement)


_PREPARED = "SELECT gid FROM pg_prepared_xacts WHERE database = %s"


def drop(server: str, database: str) -> None:
    """Drop the database if it exists, with its connections and prepared transactions."""
    statement = sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(database))
    with psycopg.connect(server, autocommit=True) as connection:
        if prepared := connection.execute(_PREPARED, (database,)).fetchall():
            with psycopg.connect(at(server, database), autocommit=True) as inside:
                for (gid,) in prepared:
                    inside.execute(sql.SQL("ROLLBACK PREPARED {}").format(sql.Literal(gid)))
        while True:
            try:
                connection.execute(statement)
            except ObjectInUse:  # another node has connected meanwhile
                continue
            return


NODE_COMMAND = os.environ.get("DEVICESTAT_TEST_CITUS_NODE_COMMAND", "")
"""A command that takes `kill N` (SIGKILL of all its processes) and `start N`; 1 is the coordinator, 2 the first
worker."""
COORDINATOR = 1
on_a_cluster = pytest.mark.skipif(not WORKERS, reason="DEVICESTAT_TEST_CITUS_WORKERS names no cluster")
_IS_ALONE = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")) == 1
needs_commands = pytest.mark.skipif(
    not (WORKERS and NODE_COMMAND and _IS_ALONE),
    reason="DEVICESTAT_TEST_CITUS_WORKERS and DEVICESTAT_TEST_CITUS_NODE_COMMAND name no cluster, "
    "or other tests run beside this one, which kills nodes: pass -n 0",
)


def command_node(action: str, number: int) -> None:
    """Kill or start a node of the cluster; a start returns when the node takes connections."""
    subprocess.run([*shlex.split(NODE_COMMAND), action, str(number)], check=True, stdout=subprocess.DEVNULL)


@asynccontextmanager
async def killed(number: int, kill: Callable[[], object] | None = None) -> AsyncIterator[None]:
    """Let a node be away for the block. `kill`: kills it; None: at once."""
    try:
        await asyncio.to_thread(kill or partial(command_node, "kill", number))
        yield
    finally:
        await asyncio.to_thread(command_node, "start", number)


def prepared(url: str) -> list[str]:
    """Return the transactions that are prepared in the database on the workers that can be reached."""
    found = []
    for worker in nodes(url)[:-1]:
        with suppress(psycopg.OperationalError), psycopg.connect(worker, autocommit=True) as connection:
            found += [gid for (gid,) in connection.execute(_PREPARED, (connection.info.dbname,))]
    return found
