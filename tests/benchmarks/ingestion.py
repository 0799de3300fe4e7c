"""Messages to committed rows: the ingestor, against two programs in C without guarantees.

The peer is `mosquitto_sub -q 1 | psql -c COPY`. It acknowledges on receipt, and commits once at its end. The same
rounds measure the generator alone, to show that it is not the bottleneck. Each measurement has its own broker, so that
no other session has a queue.
"""

import asyncio
import subprocess
import time
from collections.abc import Iterator
from typing import LiteralString

import msgspec
import psutil
import psycopg

from deploy.local.postgres import EmbeddedPostgres
from tests.benchmarks import peers
from tests.benchmarks.generator import ARRAY, generating
from tests.benchmarks.pairs import Finding, Ratio, target, warmed
from tests.benchmarks.servers import broker, clear, settings
from tests.ingestion import IngestorProcess

POLL_S = 0.01
DEADLINE_S = 120.0
_PEER_COPY: LiteralString = "COPY peer (device_id, recorded_at, received_at, x, y, z) FROM STDIN"
_CREATED: LiteralString = "SELECT coalesce(pg_sequence_last_value('readings_id_seq'), 0)"
"""Number of inserted rows. Unlike count(*), it does not load the database."""
_STORED: LiteralString = "SELECT count(*) FROM readings"


class Workload(msgspec.Struct, frozen=True):
    """Messages for the ingestor and for the peer."""

    name: str
    item: str
    messages: int
    readings: int  # readings in a message
    ours: str
    peer: str
    peer_line: str

    @property
    def total(self) -> int:
        return self.messages * self.readings


MESSAGES = Workload(
    "messages of one reading", "message", 100_000, 1, "json", "tabs", r"1\t@Y-@m-@d @H:@M:@S.@N+00\tnow\t%p"
)
ARRAYS = Workload("arrays of 100", "reading", 5_000, ARRAY, "json-array", "tabs-array", "%p")
TIMED_ARRAYS = msgspec.structs.replace(ARRAYS, name="arrays of 100, with timestamps", ours="json-array-timed")

WANTED_CPU_US = 20.0
WANTED_READINGS_S = 120_000.0


class Run(msgspec.Struct, frozen=True):
    """One measurement: readings a second, and the CPU time of the receiving programs for each reading."""

    rate: float
    cpu_us: float = 0.0


def messages(postgres: EmbeddedPostgres) -> Iterator[Finding]:
    """Measure single readings: messages a second, and the ingestor's CPU for each."""
    runs = _measure(postgres, MESSAGES)
    cpu = [run.cpu_us for run in runs.ours]
    yield _to_rows(MESSAGES, runs, ">= 1")
    yield Ratio("the ingestor's CPU a message", "20 µs", "µs", cpu, target(WANTED_CPU_US), "<= 1")
    yield from _others(MESSAGES, runs)


def arrays(postgres: EmbeddedPostgres) -> Iterator[Finding]:
    """Measure arrays of 100: readings a second, without and with timestamps."""
    for workload in (ARRAYS, TIMED_ARRAYS):
        runs = _measure(postgres, workload)
        rates = _rates(runs.ours)
        yield Ratio(f"{workload.name}, to rows", "120 k/s", "readings/s", rates, target(WANTED_READINGS_S), ">= 1")
        yield _to_rows(workload, runs, "")
        yield from _others(workload, runs)


def _to_rows(workload: Workload, runs: "_Runs", wanted: str) -> Ratio:
    unit, name = f"{workload.item}s/s", f"{workload.name}, to rows"
    return Ratio(name, "mosquitto_sub | psql COPY", unit, _rates(runs.ours), _rates(runs.peer), wanted)


def _others(workload: Workload, runs: "_Runs") -> Iterator[Finding]:
    """Report CPU, generator and broker in the same rounds."""
    unit, taken = f"{workload.item}s/s", _rates(runs.ours)
    cpu, peer_cpu = [run.cpu_us for run in runs.ours], [run.cpu_us for run in runs.peer]
    yield Ratio(f"- the ingestor's CPU a {workload.item}", "mosquitto_sub and psql", "µs", cpu, peer_cpu)
    ours = "the ingestor's rate"
    yield Ratio("- the generator, without subscribers", ours, unit, _rates(runs.alone), taken, "> 1")
    yield Ratio("- the generator, with mosquitto_sub subscribed", ours, unit, _rates(runs.acknowledged), taken)
    yield Ratio("- delivered to mosquitto_sub > /dev/null", ours, unit, _rates(runs.heard), taken)
    yield f"{workload.name}: {workload.messages:,} messages, {workload.total:,} readings a run."


def _rates(runs: list[Run]) -> list[float]:
    return [run.rate for run in runs]


class _Runs(msgspec.Struct, frozen=True):
    """Measure the ingestor, the peer, the generator alone and with a subscriber, and that subscriber."""

    ours: list[Run]
    peer: list[Run]
    alone: list[Run]
    acknowledged: list[Run]
    heard: list[Run]


def _measure(postgres: EmbeddedPostgres, workload: Workload) -> _Runs:
    with psycopg.connect(postgres.url, autocommit=True) as database:
        sides = _Sides(postgres, database, workload)
        return _Runs(*warmed(sides.ours, sides.peer, sides.alone, sides.acknowledged, sides.heard))


class _Sides:
    def __init__(self, postgres: EmbeddedPostgres, database: psycopg.Connection, workload: Workload) -> None:
        self._postgres = postgres
        self._database = database
        self._workload = workload

    def ours(self) -> Run:
        """Measure committed rows of the ingestor."""
        clear(self._database)
        with broker() as server:
            ingestor = IngestorProcess(settings(self._postgres, server))
            try:
                asyncio.run(ingestor.until_ready())
                process = psutil.Process(ingestor.process.pid)
                before = process.cpu_times()
                with generating(server.port, self._workload.messages, self._workload.ours):
                    began = time.monotonic()
                    until_stored(self._database, self._workload)
                    seconds = time.monotonic() - began
                after = process.cpu_times()
            finally:
                asyncio.run(ingestor.end())
        return self._run(seconds, after.user + after.system - before.user - before.system)

    def peer(self) -> Run:
        """Measure committed rows of mosquitto_sub and psql."""
        clear(self._database)
        count = str(self._workload.messages)
        with (
            broker() as server,
            peers.subscriber(server, self._workload.peer_line, "-C", count) as lines,
            peers.psql(self._postgres, lines, "-c", _PEER_COPY) as copying,
            generating(server.port, self._workload.messages, self._workload.peer),
        ):
            began = time.monotonic()
            cpu_s = peers.ended(copying)
            seconds = time.monotonic() - began
            cpu_s += peers.ended(lines)
        check(self._database, "SELECT count(*) FROM peer", self._workload)
        return self._run(seconds, cpu_s)

    def alone(self) -> Run:
        """Measure the generator without a subscriber."""
        with broker() as server:
            return self._run(self._published(server.port))

    def acknowledged(self) -> Run:
        """Measure the generator with a subscriber to /dev/null, until the broker has acknowledged all."""
        with broker() as server, peers.subscriber(server, "%p", stdout=subprocess.DEVNULL):
            return self._run(self._published(server.port))

    def heard(self) -> Run:
        """Measure the same, until the subscriber has all messages."""
        count = self._workload.messages
        with (
            broker() as server,
            peers.subscriber(server, "%p", "-C", str(count), stdout=subprocess.DEVNULL) as listening,
            generating(server.port, count, self._workload.ours),
        ):
            began = time.monotonic()
            cpu_s = peers.ended(listening)
            return self._run(time.monotonic() - began, cpu_s)

    def _published(self, port: int) -> float:
        """Return the seconds of the generator."""
        with generating(port, self._workload.messages, self._workload.ours) as generator:
            began = time.monotonic()
            generator.wait()
            return time.monotonic() - began

    def _run(self, seconds: float, cpu_s: float = 0.0) -> Run:
        return Run(self._workload.total / seconds, cpu_s / self._workload.total * 1_000_000)


def until_stored(database: psycopg.Connection, workload: Workload) -> None:
    """Wait until all readings are rows, and count them."""
    ends = time.monotonic() + DEADLINE_S
    while _ask(database, _CREATED) < workload.total or _ask(database, _STORED) < workload.total:
        assert time.monotonic() < ends, f"{_ask(database, _STORED)} rows after {DEADLINE_S:g} s"
        time.sleep(POLL_S)
    check(database, _STORED, workload)


def check(database: psycopg.Connection, query: LiteralString, workload: Workload) -> None:
    """Require that the query counts each reading of the workload once."""
    stored = _ask(database, query)
    assert stored == workload.total, f"{stored} rows of {workload.total} readings"


def _ask(database: psycopg.Connection, query: LiteralString) -> int:
    (answer,) = database.execute(query).fetchone() or (0,)
    return int(answer)
