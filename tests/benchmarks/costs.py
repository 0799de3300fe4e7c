"""What a reading costs, part by part, and what a number of devices needs by these costs (docs/scaling.md).

CPU time of the broker, the ingestor, PostgreSQL and the worker, the write-ahead log, and the bytes on the disk.
Readings are published as fast as they are stored, without timestamps of their own. CPU time is user and system time.
"""

import asyncio
import math
from collections.abc import Iterator
from typing import LiteralString

import msgspec
import psutil
import psycopg

from deploy.local.postgres import EmbeddedPostgres
from tests.benchmarks import sealed
from tests.benchmarks.generator import generating
from tests.benchmarks.ingestion import ARRAYS, MESSAGES, Workload, until_stored
from tests.benchmarks.pairs import Finding, rounded
from tests.benchmarks.servers import broker, clear, settings
from tests.ingestion import IngestorProcess

DATABASE = "bench_costs"
SECONDS_A_DAY = 86_400
BUSY = 0.5
"""Share of a processor that is planned for, so that peaks and other work have the rest."""
LOADS = ((1_000, 1.0), (10_000, 1.0), (100_000, 1.0), (100_000, 0.1))
"""Devices, and readings of each in a second."""
_WAL: LiteralString = "SELECT (pg_current_wal_lsn() - '0/0'::pg_lsn)::float8"
_ROWS: LiteralString = """
    SELECT sum(pg_table_size(relid))::float8, sum(pg_indexes_size(relid))::float8
    FROM pg_partition_tree('readings') WHERE isleaf
"""


class Costs(msgspec.Struct, frozen=True):
    """What a reading costs: µs of CPU time in each part, and bytes of the write-ahead log, the table and its index."""

    broker: float
    ingestor: float
    postgresql: float
    wal: float
    table: float
    index: float


class Sealing(msgspec.Struct, frozen=True):
    """What sealing a reading costs: µs of CPU time of the worker and of PostgreSQL, and bytes of the blocks."""

    worker: float
    postgresql: float
    size: float


def measure(postgres: EmbeddedPostgres) -> Iterator[Finding]:
    """Measure single messages and arrays, seal what was stored, and extrapolate."""
    with psycopg.connect(postgres.url, autocommit=True) as database:
        found = {workload.name: _costs(postgres, database, workload) for workload in (MESSAGES, ARRAYS)}
    sealing = _sealing(postgres)
    for name, costs in found.items():
        yield _said(name, costs)
    yield (
        f"sealing, a reading: {rounded(sealing.worker)} µs of the worker, "
        f"{rounded(sealing.postgresql)} µs of PostgreSQL, {rounded(sealing.size)} bytes of blocks"
    )
    for devices, hertz in LOADS:
        for workload in (MESSAGES, ARRAYS):
            yield _needs(devices, hertz, workload, found[workload.name], sealing)


def _said(name: str, costs: Costs) -> str:
    return (
        f"{name}, a reading: {rounded(costs.broker)} µs of the broker, {rounded(costs.ingestor)} µs of the ingestor, "
        f"{rounded(costs.postgresql)} µs of PostgreSQL; {rounded(costs.wal)} bytes of write-ahead log, "
        f"{rounded(costs.table)} of the table, {rounded(costs.index)} of its index"
    )


def _needs(devices: int, hertz: float, workload: Workload, costs: Costs, sealing: Sealing) -> str:
    """Say what the load needs, if costs grow with the readings alone."""
    rate = devices * hertz
    cores = {
        "broker": rate * costs.broker, "ingestor": rate * costs.ingestor,
        "PostgreSQL": rate * (costs.postgresql + sealing.postgresql), "worker": rate * sealing.worker,
    }  # fmt: skip
    parts = ", ".join(f"{name} {rounded(us / 1_000_000)}" for name, us in cores.items())
    gigabytes = rate * SECONDS_A_DAY * (costs.table + costs.index + sealing.size) / 1e9
    whole = math.ceil(sum(cores.values()) / 1_000_000 / BUSY)
    return (
        f"{devices:,} devices, {rate:,.0f} readings/s, {workload.name}: processors {parts}: {whole} at {BUSY:.0%}; "
        f"{rounded(gigabytes)} GB a day, {rounded(rate * costs.wal / 1e6)} MB/s of write-ahead log"
    )


def _costs(postgres: EmbeddedPostgres, database: psycopg.Connection, workload: Workload) -> Costs:
    clear(database)
    with broker() as server:
        ingestor = IngestorProcess(settings(postgres, server))
        try:
            asyncio.run(ingestor.until_ready())
            parts = [mosquitto_process(), psutil.Process(ingestor.process.pid), _postmaster(postgres)]
            wal = _written(database)
            before = [cpu_s(part) for part in parts]
            with generating(server.port, workload.messages, workload.ours):
                until_stored(database, workload)
            used = [cpu_s(part) - then for part, then in zip(parts, before, strict=True)]
            wal = _written(database) - wal
        finally:
            asyncio.run(ingestor.end())
    table, index = database.execute(_ROWS).fetchone() or (0.0, 0.0)
    cpu = [seconds / workload.total * 1e6 for seconds in used]
    return Costs(*cpu, *(figure / workload.total for figure in (wal, table, index)))


def _sealing(postgres: EmbeddedPostgres) -> Sealing:
    """Seal a million readings of a device, a second apart, with one to three decimals."""
    with psycopg.connect(postgres.url_of("postgres"), autocommit=True) as server:
        server.execute(f"CREATE DATABASE {DATABASE}".encode())
        url, data = postgres.url_of(DATABASE), sealed.decimals(sealed.readings())
        asyncio.run(sealed.store(url, {sealed.DECIMALS: data}))
        before = cpu_s(_postmaster(postgres))
        found = sealed.seal(url, sealed.DECIMALS, int(data["t"].iloc[-sealed.UNSEALED]))
        used = cpu_s(_postmaster(postgres)) - before
        server.execute(f"DROP DATABASE {DATABASE} WITH (FORCE)".encode())
    return Sealing(*(figure / found.readings for figure in (found.cpu * 1e6, used * 1e6, found.size)))


def _written(database: psycopg.Connection) -> float:
    """Return the bytes of write-ahead log since the server was made."""
    (position,) = database.execute(_WAL).fetchone() or (0.0,)
    return float(position)


def mosquitto_process() -> psutil.Process:
    """Return the broker that this process has started."""
    (found,) = (child for child in psutil.Process().children() if child.name() == "mosquitto")
    return found


def _postmaster(postgres: EmbeddedPostgres) -> psutil.Process:
    return psutil.Process(int((postgres.data / "postmaster.pid").read_text().splitlines()[0]))


def cpu_s(process: psutil.Process) -> float:
    """Return the CPU time of the process and of its children, also of those that have ended."""
    return sum(sum(each.cpu_times()[:4]) for each in (process, *process.children(recursive=True)))
