"""A device whose rows are one to a page of the table: its export, its series, and its removal from a cold cache."""

import asyncio
import os
import time
from collections.abc import Iterator
from functools import partial

from deploy.local.postgres import EmbeddedPostgres
from query_api.worker.maintenance import removal
from shared.postgres.connections import Connection, connect
from tests.benchmarks import exports
from tests.benchmarks.http import serving
from tests.benchmarks.pairs import PAIRS, Finding, Ratio, target, warmed
from tests.benchmarks.scale import data
from tests.command import argv
from tests.ports import free_port

REMOVED = min(10_000, data.OFTEN)
WANTED_REMOVAL_S = 10.0
_COPY_POINTS = f"""
    COPY (SELECT recorded_at, x, y, z FROM readings WHERE device_id = {data.BIG} ORDER BY recorded_at, x, y, z)
    TO STDOUT (FORMAT binary)
"""  # noqa: S608  # a constant
_MARK = "INSERT INTO deleted_devices (device_id, key) VALUES (%s, 'scale')"


class _Undone(Exception):
    """Rolls a measurement back."""


def measure(postgres: EmbeddedPostgres) -> Iterator[Finding]:
    """Measure seconds."""
    port = free_port()
    settings = {"database_url": postgres.url, "http_port": port, "log_level": "warning"}
    with serving(port, argv("serve"), "/health/ready", **settings):
        ours, peer = warmed(
            partial(exports.read, port, f"/stats/{data.BIG}.csv"),
            partial(exports.copy, postgres, exports.statement(data.BIG)),
        )
        yield Ratio("a device one row to a page, as csv", "psql COPY … (FORMAT csv)", "s", ours, peer, "<= 1.3")
        ours, peer = warmed(
            partial(exports.read, port, f"/stats/{data.BIG}/series"), partial(exports.copy, postgres, _COPY_POINTS)
        )
        yield Ratio("- its series of 1,000 points", "psql COPY … (FORMAT binary)", "s", ours, peer)
    took = [_removal_s(postgres) for _ in range(PAIRS)]
    yield Ratio(f"- removal of {REMOVED:,} rows, cold", "10 s", "s", took, target(WANTED_REMOVAL_S), "<= 1")


def _removal_s(postgres: EmbeddedPostgres) -> float:
    _make_cold(postgres)
    return asyncio.run(_remove(postgres.url))


def _make_cold(postgres: EmbeddedPostgres) -> None:
    """Empty PostgreSQL's buffers and the system's cache of its files."""
    postgres.stop()
    os.sync()
    for path in postgres.data.rglob("*"):
        if path.is_file():
            file = os.open(path, os.O_RDONLY)
            os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(file)
    postgres.start()


async def _remove(url: str) -> float:
    """Return the seconds of one step of the removal, which is rolled back."""
    async with await connect(url, "bench") as connection:
        try:
            async with connection.transaction():
                await connection.execute(_MARK, (data.BIG,))
                return await _step(connection)
        except _Undone as undone:
            return float(undone.args[0])


async def _step(connection: Connection) -> float:
    began = time.monotonic()
    assert await removal.remove_some(connection, REMOVED) == REMOVED
    raise _Undone(time.monotonic() - began)
