"""Runs all or the named benchmarks, and prints one table."""

import argparse
import asyncio
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from typing import LiteralString

import psycopg
import structlog

from deploy.local.postgres import DATABASE, EmbeddedPostgres
from shared.postgres.connections import connect
from shared.postgres.migrate import migrate
from shared.postgres.roles import set_up
from tests.benchmarks import (
    analysis,
    cluster,
    costs,
    decoding,
    delay,
    devices,
    event_loop,
    exports,
    fairness,
    http,
    ingestion,
    machine,
    made_blocks,
    many_devices,
    memory,
    months,
    mqtt_auth,
    page,
    peers,
    queue,
    scale,
    sealed,
    servers,
    small_analyses,
    start,
    store,
    table,
    ticks,
    windows,
)
from tests.benchmarks.generator import DEVICES
from tests.benchmarks.pairs import Finding
from tests.roles import let_roles_in, make_roles

BENCHMARKS: dict[str, Callable[[EmbeddedPostgres], Iterator[Finding]]] = {
    "messages": ingestion.messages,
    "arrays": ingestion.arrays,
    "delay": delay.measure,
    "windows": windows.measure,
    "fairness": fairness.measure,
    "memory": memory.measure,
    "decoding": decoding.measure,
    "costs": costs.measure,
    "store": store.measure,
    "analysis": analysis.measure,
    "small-analyses": small_analyses.measure,
    "many-devices": many_devices.measure,
    "sealed": sealed.measure,
    "made-blocks": made_blocks.measure,
    "months": months.measure,
    "ticks": ticks.measure,
    "queue": queue.measure,
    "http": http.measure,
    "mqtt-auth": mqtt_auth.measure,
    "start": start.measure,
    "page": page.measure,
    "devices": devices.measure,
    "exports": exports.measure,
    "event-loop": event_loop.measure,
    "scale": scale.measure,
    "cluster": cluster.measure,
}
ONLY_IF_NAMED = {"scale", "cluster"}
_KEEP: LiteralString = f"ALTER DATABASE {DATABASE} RENAME TO prepared"
_MAKE: tuple[LiteralString, ...] = (
    f"DROP DATABASE IF EXISTS {DATABASE} WITH (FORCE)",
    f"CREATE DATABASE {DATABASE} TEMPLATE prepared",
)
_ADD_DEVICES = "INSERT INTO devices (key, name) SELECT n, n FROM generate_series(1, %s) n"


async def _migrate(url: str) -> None:
    async with await connect(url, "bench") as connection:
        await migrate(connection)
        await set_up(connection)


def _prepare(postgres: EmbeddedPostgres) -> None:
    """Prepare the database, and keep it as the template of each benchmark's."""
    asyncio.run(make_roles(postgres.url))
    asyncio.run(_migrate(postgres.url))
    let_roles_in(postgres.url)
    with psycopg.connect(postgres.url, autocommit=True) as database:
        database.execute(_ADD_DEVICES, (DEVICES,))
        peers.make_table(database)
    _execute(postgres, _KEEP)


def _execute(postgres: EmbeddedPostgres, *statements: LiteralString) -> None:
    with psycopg.connect(postgres.url_of("postgres"), autocommit=True) as server:
        for statement in statements:
            server.execute(statement)


def _run(names: list[str], postgres: EmbeddedPostgres, failed: list[str]) -> Iterator[Finding]:
    """Run each benchmark in a database of its own. `failed` gets the names of those that raise."""
    for name in names:
        began = time.monotonic()
        _execute(postgres, *_MAKE)
        try:
            yield from BENCHMARKS[name](postgres)
        except (Exception, SystemExit):  # noqa: BLE001  # the others' figures are kept
            traceback.print_exc()
            failed.append(name)
        print(f"{name}: {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)  # noqa: T201


def main() -> None:
    parser = argparse.ArgumentParser("python -m tests.benchmarks", description=__doc__)
    parser.add_argument(
        "names",
        nargs="*",
        metavar="NAME",
        help=f"which ones: {', '.join(BENCHMARKS)} (all but {' and '.join(sorted(ONLY_IF_NAMED))})",
    )
    parser.add_argument("--markdown", action="store_true", help="print the table as Markdown")
    given = parser.parse_args()
    unknown = [name for name in given.names if name not in BENCHMARKS]
    if unknown:
        parser.error(f"no benchmark is named {', '.join(unknown)}: choose from {', '.join(BENCHMARKS)}")
    lacking = cluster.missing() if "cluster" in given.names else None
    if lacking is not None:
        parser.error(f"cluster needs a Citus cluster: {lacking}")
    structlog.configure(
        logger_factory=structlog.PrintLoggerFactory(sys.stderr)
    )  # the log of the API does not belong in the table
    failed: list[str] = []
    with servers.directory() as directory, EmbeddedPostgres(directory) as postgres:
        where = machine.describe(postgres)
        _prepare(postgres)
        findings = list(
            _run(given.names or [name for name in BENCHMARKS if name not in ONLY_IF_NAMED], postgres, failed)
        )
    print(where, end="\n\n")  # noqa: T201
    if given.markdown:
        print(table.markdown(findings))  # noqa: T201
    else:
        table.show(findings)
    if failed:
        sys.exit(f"failed, see above: {', '.join(failed)}")


main()
