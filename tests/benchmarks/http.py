"""Requests a second of one API process, against the same endpoints in FastAPI and SQLAlchemy.

`http_load` sends the requests, `http_data` has the data, and `plain_service` is the peer. Both services run all the
time, on one database with its data on a disk. One of them gets requests at a time.
"""

import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from statistics import median

import httpx
import msgspec
import psutil
import psycopg

from deploy.local.postgres import EmbeddedPostgres
from tests.benchmarks import http_data
from tests.benchmarks.pairs import Ratio, rounded, warmed
from tests.command import argv, environment
from tests.ports import free_port

SECONDS = 3
"""Seconds of one measurement."""
STARTED_WITHIN_S = 30


class Service(msgspec.Struct):
    """A running service, and the CPU time of its process for each measured request."""

    port: int
    process: psutil.Process
    cpu_us: dict[str, list[float]]

    def asked(self, load: str, module: str = "tests.benchmarks.http_load") -> float:
        """Measure responses a second. `module`: the load generator."""
        before = self._cpu_s()
        command = [sys.executable, "-m", module, str(self.port), load, str(SECONDS)]
        said = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
        rate = float(said)
        self.cpu_us.setdefault(load, []).append((self._cpu_s() - before) / (rate * SECONDS) * 1e6)
        return rate

    def _cpu_s(self) -> float:
        times = self.process.cpu_times()
        return float(times.user + times.system)


@contextmanager
def serving(port: int, command: Sequence[str], ready: str, **settings: object) -> Iterator[Service]:
    with subprocess.Popen(command, env=environment(**settings)) as process:
        try:
            _await(f"http://127.0.0.1:{port}{ready}", process)
            yield Service(port, psutil.Process(process.pid), {})
        finally:
            process.terminate()


def _await(address: str, process: "subprocess.Popen[bytes]") -> None:
    ends = time.monotonic() + STARTED_WITHIN_S
    while time.monotonic() < ends:
        assert process.poll() is None, f"{process.args} ended with {process.returncode}"
        try:
            if httpx.get(address).is_success:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.05)
    raise AssertionError(f"{address} does not respond")


@contextmanager
def _services(postgres: EmbeddedPostgres) -> Iterator[tuple[Service, Service]]:
    ours, peers = free_port(), free_port()
    plain = [sys.executable, "-m", "tests.benchmarks.plain_service", postgres.url, str(peers)]
    with (
        serving(
            ours, argv("serve"), "/health/ready", database_url=postgres.url, http_port=ours, log_level="warning"
        ) as our,
        serving(peers, plain, "/openapi.json") as peer,
    ):
        yield our, peer


def measure(postgres: EmbeddedPostgres) -> Iterator[Ratio | str]:
    """Measure responses a second."""
    with _services(postgres) as (our, peer), psycopg.connect(postgres.url, autocommit=True) as database:
        http_data.fill(database)
        ours, by_rows, by_sql = warmed(
            partial(our.asked, "analyse"), partial(peer.asked, "analyse"), partial(peer.asked, "analyse-sql")
        )
        stores = warmed(partial(our.asked, "store"), partial(peer.asked, "store"))
    yield Ratio("analyses of 10^3 readings over HTTP", "FastAPI, SQLAlchemy", "/s", ours, by_rows, ">= 5")
    yield Ratio("analyses of 10^3 readings over HTTP", "FastAPI, SQLAlchemy, figures in SQL", "/s", ours, by_sql)
    yield Ratio("POST /stats", "FastAPI, SQLAlchemy", "/s", *stores, ">= 5")
    yield _cpu(our, peer)


def _cpu(our: Service, peer: Service) -> str:
    loads = {"POST /stats": "store", "an analysis": "analyse"}
    each = (f"{what} {_us(our, load)} (peer {_us(peer, load)})" for what, load in loads.items())
    return f"CPU of the service's own process for one request, in us: {', '.join(each)}."


def _us(service: Service, load: str) -> str:
    return rounded(median(service.cpu_us[load]))
