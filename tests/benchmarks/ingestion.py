"""Messages to committed rows: the ingestor, and two programs in C that promise nothing.

The peer is `mosquitto_sub -q 1 | psql -c COPY` into a table of the same shape with the same unique key. It
need not decode (its messages are COPY lines already), acknowledges on receipt, and commits once, at its end.
Each measurement has a broker of its own, so that no session of the other side queues along.
"""

import asyncio
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import psycopg

from deploy.mosquitto import EmbeddedMosquitto
from deploy.postgres import EmbeddedPostgres
from shared.settings import Settings
from tests.benchmarks.generator import DEVICES
from tests.benchmarks.pairs import Ratio, alternate
from tests.ingestion import IngestorProcess
from tests.ports import free_port

MESSAGES = 100_000
POLL_S = 0.005
_ADD_DEVICES = "INSERT INTO devices (key, name) SELECT n, n FROM generate_series(1, %s) n"
_PEER_TABLE = "CREATE TABLE peer (LIKE readings INCLUDING ALL)"
_PEER_LINE = r"1\t@Y-@m-@d @H:@M:@S.@N+00\tnow\t%p"
_PEER_COPY = "COPY peer (device_id, recorded_at, received_at, x, y, z) FROM STDIN"


def measure(postgres: EmbeddedPostgres) -> Iterator[Ratio]:
    """Messages a second, and the ingestor's own CPU for each against what the design allows."""
    with psycopg.connect(postgres.url, autocommit=True) as database:
        database.execute(_ADD_DEVICES, (DEVICES,))
        database.execute(_PEER_TABLE)
        sides = _Sides(postgres, database)
        ours, peer = alternate(sides.ours, sides.peer)
    yield Ratio("messages to rows, QoS 1", "messages/s", ours, peer)
    cpu = sides.cpu_us[-len(ours) :]
    yield Ratio("ingestor's CPU a message, against 20 µs", "µs", cpu, [20.0] * len(cpu))


class _Sides:
    def __init__(self, postgres: EmbeddedPostgres, database: psycopg.Connection) -> None:
        self._postgres = postgres
        self._database = database
        self.cpu_us: list[float] = []

    def ours(self) -> float:
        """Messages a second into committed rows, by the ingestor."""
        with broker() as server:
            settings = Settings(database_url=self._postgres.url, mqtt_url=server.url, ingestor_metrics_port=free_port())
            ingestor = IngestorProcess(settings)
            try:
                asyncio.run(ingestor.until_ready())
                process = psutil.Process(ingestor.process.pid)
                before = process.cpu_times()
                with _generator(server.port, "json"):
                    began = time.monotonic()
                    self._until_stored("SELECT count(*) FROM readings")
                    seconds = time.monotonic() - began
                after = process.cpu_times()
            finally:
                asyncio.run(ingestor.end())
        self._database.execute("TRUNCATE readings, ingest_journal")
        used = after.user + after.system - before.user - before.system
        self.cpu_us.append(used / MESSAGES * 1_000_000)
        return MESSAGES / seconds

    def peer(self) -> float:
        """The same, by mosquitto_sub and psql."""
        with broker() as server:
            subscribe = ["mosquitto_sub", "-h", server.host, "-p", str(server.port), "-V", "5", "-q", "1",
                         "-i", "peer", "-c", "-x", "3600", "-t", "devices/+/stats"]  # fmt: skip
            subprocess.run([*subscribe, "-E"], check=True)  # from here on the broker queues for it
            copy = [
                str(Path(self._postgres.program.argv[0]).with_name("psql")),
                "-q",
                "-d",
                self._postgres.url,
                "-c",
                _PEER_COPY,
            ]
            lines = subprocess.Popen([*subscribe, "-C", str(MESSAGES), "-F", _PEER_LINE], stdout=subprocess.PIPE)
            with lines, subprocess.Popen(copy, stdin=lines.stdout) as copying, _generator(server.port, "tabs"):
                began = time.monotonic()
                assert copying.wait() == 0
                seconds = time.monotonic() - began
        (stored,) = self._database.execute("SELECT count(*) FROM peer").fetchone() or (0,)
        assert stored == MESSAGES, f"the peer has stored {stored}"
        self._database.execute("TRUNCATE peer")
        return MESSAGES / seconds

    def _until_stored(self, query: str) -> None:
        while True:
            (stored,) = self._database.execute(query.encode()).fetchone() or (0,)
            if stored >= MESSAGES:
                assert stored == MESSAGES, f"{stored} rows of {MESSAGES} messages"
                return
            time.sleep(POLL_S)


@contextmanager
def broker() -> Iterator[EmbeddedMosquitto]:
    """A broker that no session of an earlier measurement burdens."""
    with (
        tempfile.TemporaryDirectory(prefix="ds") as directory,
        EmbeddedMosquitto(Path(directory), free_port()) as server,
    ):
        yield server


@contextmanager
def _generator(port: int, form: str) -> Iterator[None]:
    """The generator, which has encoded everything and begins with the block."""
    generator = subprocess.Popen(
        [sys.executable, "-m", "tests.benchmarks.generator", str(port), str(MESSAGES), form],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with generator:
        assert generator.stdout is not None
        assert generator.stdin is not None
        assert generator.stdout.readline() == "encoded\n"
        generator.stdin.write("go\n")
        generator.stdin.flush()
        yield
    assert generator.returncode == 0


def ceiling() -> float:
    """Messages a second that the generator publishes where nobody subscribes."""
    with broker() as server, _generator(server.port, "json"):
        began = time.monotonic()
    return MESSAGES / (time.monotonic() - began)
