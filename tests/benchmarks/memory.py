"""The ingestor's memory while the database is down and a million messages wait, and while it stores them."""

import asyncio
import sys
import time
from collections.abc import Iterator

import psycopg

from deploy.local.mosquitto import EmbeddedMosquitto
from deploy.local.postgres import EmbeddedPostgres
from tests.benchmarks.generator import generating
from tests.benchmarks.pairs import PAIRS, Finding, Ratio, target
from tests.benchmarks.process import peak_mb
from tests.benchmarks.servers import broker, clear, settings
from tests.ingestion import IngestorProcess, until_not_ready

WAITING = 1_000_000
WANTED_MB = 250.0
POLL_S = 0.2
DEADLINE_S = 300.0
_CREATED = "SELECT coalesce(pg_sequence_last_value('readings_id_seq'), 0)"
_VALUES = "SELECT count(*), count(DISTINCT x), min(x), max(x) FROM readings"


def measure(postgres: EmbeddedPostgres) -> Iterator[Finding]:
    """Measure the peak in megabytes, from the start of the process to the last row."""
    if not sys.platform.startswith("linux"):
        raise SystemExit("the benchmark `memory` reads the peak from /proc, which needs Linux: leave it out")
    peaks = [_peak_mb(postgres) for _ in range(PAIRS)]
    yield Ratio("the ingestor's peak memory", "250 MB", "MB", peaks, target(WANTED_MB), "< 1")
    yield (
        f"memory: VmHWM of the ingestor's process, from its start to the last row. {WAITING:,} messages of one reading "
        "were published while the database was stopped; then it was started, and each was found stored once."
    )


def _peak_mb(postgres: EmbeddedPostgres) -> float:
    with psycopg.connect(postgres.url, autocommit=True) as database:
        clear(database)
    with broker() as server:
        given = settings(postgres, server)
        ingestor = IngestorProcess(given)
        try:
            asyncio.run(ingestor.until_ready())
            _publish_while_away(postgres, server, given.ingestor_metrics_port)
            _until_stored(postgres)
            return peak_mb(ingestor.process.pid)
        finally:
            asyncio.run(ingestor.end())


def _publish_while_away(postgres: EmbeddedPostgres, server: EmbeddedMosquitto, port: int) -> None:
    postgres.stop()
    try:
        with generating(server.port, WAITING, "json"):
            pass
        asyncio.run(until_not_ready(port))
    finally:
        postgres.start()


def _until_stored(postgres: EmbeddedPostgres) -> None:
    ends = time.monotonic() + DEADLINE_S
    with psycopg.connect(postgres.url, autocommit=True) as database:
        while _ask(database, _CREATED)[0] < WAITING or _ask(database, _VALUES)[0] < WAITING:
            assert time.monotonic() < ends, f"not stored within {DEADLINE_S:g} s"
            time.sleep(POLL_S)
        stored = _ask(database, _VALUES)
    assert stored == (WAITING, WAITING, 0.0, 999.999), f"each is stored once, but: {stored}"


def _ask(database: psycopg.Connection, query: str) -> tuple[float, ...]:
    row = database.execute(query.encode()).fetchone()
    assert row is not None
    return row
