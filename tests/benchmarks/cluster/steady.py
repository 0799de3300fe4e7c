"""The ingestor under load: readings from a broker to rows, and what a reading costs in each part.

Readings are published as fast as they are stored, so batches grow as they do under load.
"""

import asyncio
import statistics
import time
from collections.abc import Iterator, Sequence
from functools import partial

import msgspec
import psutil
import psycopg

from shared.settings import Settings
from tests import citus
from tests.benchmarks.cluster.databases import Databases, ask, ask_where_stored, clear
from tests.benchmarks.cluster.processors import Nodes
from tests.benchmarks.costs import cpu_s, mosquitto_process
from tests.benchmarks.generator import generating
from tests.benchmarks.ingestion import ARRAYS, MESSAGES, Workload, until_stored
from tests.benchmarks.pairs import Finding, Ratio, alternate, rounded
from tests.benchmarks.servers import broker
from tests.ingestion import IngestorProcess, metrics
from tests.ports import free_port

WANTED = ">= 0.9"
_BATCHES = "devicestat_ingest_batch_readings_count"
_WRITTEN = "SELECT (pg_current_wal_lsn() - '0/0'::pg_lsn)::float8"
_SIZE = r"""
    SELECT coalesce(sum(pg_table_size(oid)), 0)::float8, coalesce(sum(pg_indexes_size(oid)), 0)::float8
    FROM pg_class WHERE relkind = 'r' AND relname ~ '^readings_\d{4}_\d\d(_\d+)?$'
"""


class Run(msgspec.Struct, frozen=True):
    """One measurement: readings a second, readings of a batch, and what a reading costs.

    µs of CPU time of the broker, the ingestor, the coordinator and the other nodes; bytes of the write-ahead logs of
    all nodes, of the table and of its index.
    """

    rate: float
    batch: float
    broker: float
    ingestor: float
    coordinator: float
    nodes: float
    wal: float
    table: float
    index: float


def measure(given: Databases, nodes: Nodes, found: dict[str, Run]) -> Iterator[Finding]:
    """Measure messages of one reading, and arrays of a hundred. `found` gets the costs on the cluster."""
    for workload in (MESSAGES, ARRAYS):
        ours, peer = alternate(*(partial(_run, url, nodes, workload) for url in (given.distributed, given.plain)))
        rates = [[run.rate for run in side] for side in (ours, peer)]
        yield Ratio(f"{workload.name}, to rows, 8 shards", "one PostgreSQL", "readings/s", *rates, WANTED)
        found[workload.name] = _median(ours)
        yield _said(workload.name, "on the cluster", found[workload.name])
        yield _said(workload.name, "on one PostgreSQL", _median(peer))


def _said(name: str, where: str, run: Run) -> str:
    return (
        f"{name}, a reading {where}: {rounded(run.broker)} µs of the broker, {rounded(run.ingestor)} µs of the "
        f"ingestor, {rounded(run.coordinator)} µs of the coordinator, {rounded(run.nodes)} µs of the nodes; "
        f"{rounded(run.wal)} bytes of write-ahead log, {rounded(run.table)} of the table, {rounded(run.index)} of its "
        f"index; batches of {run.batch:,.0f} readings in the mean"
    )


def _median(runs: Sequence[Run]) -> Run:
    return Run(*(statistics.median(getattr(run, name) for run in runs) for name in Run.__struct_fields__))


def _run(url: str, nodes: Nodes, workload: Workload) -> Run:
    with psycopg.connect(url, autocommit=True) as database, broker() as mosquitto:
        clear(url)
        settings = Settings(database_url=url, mqtt_url=mosquitto.url, ingestor_metrics_port=free_port())
        ingestor = IngestorProcess(settings)
        try:
            asyncio.run(ingestor.until_ready())
            parts = [mosquitto_process(), psutil.Process(ingestor.process.pid)]
            wal, before = _written(url), [*(cpu_s(part) for part in parts), *nodes.cpu_s()]
            with generating(mosquitto.port, workload.messages, workload.ours):
                began = time.monotonic()
                until_stored(database, workload)
                seconds = time.monotonic() - began
            used = [
                now - then for now, then in zip([*(cpu_s(part) for part in parts), *nodes.cpu_s()], before, strict=True)
            ]
            wal = _written(url) - wal
            batches = asyncio.run(metrics(settings.ingestor_metrics_port))[_BATCHES]
        finally:
            asyncio.run(ingestor.end())
    each = [*(cpu * 1e6 / workload.total for cpu in used), *(size / workload.total for size in (wal, *_sizes(url)))]
    return Run(workload.total / seconds, workload.total / batches, *each)


def _written(url: str) -> float:
    """Return the bytes of the write-ahead logs of all nodes."""
    return float(sum(ask(node, _WRITTEN)[0] for node in citus.nodes(citus.at(url, "postgres"))))


def _sizes(url: str) -> tuple[float, float]:
    """Return the bytes of the readings and of their index, on all nodes that have them."""
    tables, indexes = zip(*ask_where_stored(url, _SIZE), strict=True)
    return sum(tables), sum(indexes)
