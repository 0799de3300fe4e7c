"""Delay from a quiet device's PUBLISH to the visible row, while another device floods.

The quiet device publishes ten times a second: alone, and during each flood. The ingestor keeps up with a flood, which
has a limited rate, and not with a burst. Mosquitto delivers in the order of arrival, so the quiet device's next message
follows the whole burst. The time of receipt divides the delay: before it the message was in the broker's queue, and
after it in the ingestor.
"""

import asyncio
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, nullcontext
from datetime import datetime
from functools import partial
from typing import LiteralString

import msgspec
import psycopg

from deploy.local.postgres import EmbeddedPostgres
from tests.benchmarks.delay import LOOK_EVERY_S, Run
from tests.benchmarks.paced import Publisher, publisher
from tests.benchmarks.pairs import Finding, Ratio, alternate, rounded
from tests.benchmarks.servers import broker, settings
from tests.ingestion import IngestorProcess, metrics
from tests.waiting import eventually

RATE, SECONDS = 10, 8
"""Rate of the quiet device in messages a second, and duration of a run."""
DEADLINE_S = 120.0
BURST = 60
WANTED = "<= 5"
_READING = b'{"x":1.25,"y":-2.5,"z":3.75}'
_EMPTY = "TRUNCATE readings, dead_letters"
# With the unique index: times of receipt increase.
_NEWER: LiteralString = """
    SELECT recorded_at, x FROM readings WHERE device_id = 1 AND recorded_at > %s ORDER BY recorded_at
"""


class Flood(msgspec.Struct, frozen=True):
    """Messages of the other device. `readings`: number in a message. `rate`: messages a second."""

    name: str
    payload: bytes
    readings: int
    rate: float


FLOODS = (
    Flood("bad arrays of 10,000", b"[" + b",".join([b"0"] * 10_000) + b"]", 10_000, 10),
    Flood("good arrays of 10,000", b"[" + b",".join([_READING] * 10_000) + b"]", 10_000, 4),
    Flood("2 MiB of tiny elements", b"[" + b",".join([b"0"] * (2**20 - 1)) + b"]", 1, 10),
)


class Waits(msgspec.Struct, frozen=True):
    """Delays of a run in milliseconds, each divided by the time of receipt."""

    before_receipt: list[float]
    after_receipt: list[float]

    @property
    def run(self) -> Run:
        """Both together."""
        return Run([a + b for a, b in zip(self.before_receipt, self.after_receipt, strict=True)], [], [])


def measure(postgres: EmbeddedPostgres) -> Iterator[Finding]:
    """Measure p50 and p99 in milliseconds, during each flood and alone; then the effect of a burst."""
    with ExitStack() as stack:
        database = stack.enter_context(psycopg.connect(postgres.url, autocommit=True))
        server = stack.enter_context(broker())
        ingestor = IngestorProcess(settings(postgres, server))
        stack.callback(lambda: asyncio.run(ingestor.end()))
        asyncio.run(ingestor.until_ready())
        quiet = stack.enter_context(publisher(server.host, server.port))
        flooding = stack.enter_context(publisher(server.host, server.port, "devices/2/stats"))
        sides = _Sides(database, ingestor, quiet, flooding)
        sides.alone()
        for flood in FLOODS:
            beside, alone = alternate(partial(sides.beside, flood), sides.alone)
            yield from _findings(flood, beside, alone)
        for flood in FLOODS:
            yield _remark(flood, sides.beside(flood, at_once=True))


def _findings(flood: Flood, beside: list[Waits], alone: list[Waits]) -> Iterator[Finding]:
    for percent in (50, 99):
        ours, peer = ([waits.run.percentile(percent) for waits in runs] for runs in (beside, alone))
        name = f"a quiet device beside {flood.rate:g} msg/s of {flood.name}, p{percent}"
        yield Ratio(name, "alone", "ms", ours, peer, WANTED if percent == 99 else "")


def _remark(flood: Flood, waits: Waits) -> str:
    slowest = max(range(len(waits.run.delays)), key=waits.run.delays.__getitem__)
    before, after = waits.before_receipt[slowest], waits.after_receipt[slowest]
    return (
        f"A burst of {BURST} messages of {flood.name}, then the quiet device's: the slowest of these took "
        f"{rounded(before + after)} ms, {rounded(before)} of them before the ingestor received it."
    )


class _Sides:
    """The quiet device, alone and during a flood."""

    def __init__(
        self, database: psycopg.Connection, ingestor: IngestorProcess, quiet: Publisher, flooding: Publisher
    ) -> None:
        self._database = database
        self._ingestor = ingestor
        self._quiet = quiet
        self._flooding = flooding
        self._expected = 0  # readings, since the ingestor started

    def alone(self) -> Waits:
        return self._run(nullcontext(), 0)

    def beside(self, flood: Flood, *, at_once: bool = False) -> Waits:
        """Run during the flood, or directly after a burst."""
        count = BURST if at_once else int(flood.rate * SECONDS)
        published = self._flooding.run([flood.payload] * count, 1e6 if at_once else flood.rate)
        if not at_once:
            return self._run(published, flood.readings * count)
        with published:
            pass
        return self._run(nullcontext(), flood.readings * count)

    def _run(self, meanwhile: AbstractContextManager[None], readings: int) -> Waits:
        self._database.execute(_EMPTY)
        self._expected += RATE * SECONDS + readings
        payloads = [b'{"x":%d,"y":0,"z":0}' % n for n in range(RATE * SECONDS)]
        wall = time.time() - time.monotonic()
        with meanwhile, self._quiet.run(payloads, RATE):
            seen = self._look(len(payloads))
        asyncio.run(self._until_received())
        published = [at + wall for at in self._quiet.published]
        received = [recorded_at.timestamp() for recorded_at, _ in seen]
        return Waits(
            [(b - a) * 1000 for a, b in zip(published, received, strict=True)],
            [(at + wall - b) * 1000 for b, (_, at) in zip(received, seen, strict=True)],
        )

    def _look(self, count: int) -> list[tuple[datetime, float]]:
        """Return the times when each row was received and first visible, in seconds of time.monotonic."""
        seen: list[tuple[datetime, float]] = []
        (newest,) = self._database.execute("SELECT now() - interval '1 day'").fetchone() or (None,)
        ends = time.monotonic() + DEADLINE_S
        while len(seen) < count:
            time.sleep(LOOK_EVERY_S)
            rows = self._database.execute(_NEWER, (newest,)).fetchall()
            now = time.monotonic()
            for recorded_at, x in rows:
                assert x == len(seen), "each row appears once, in order"
                seen.append((recorded_at, now))
                newest = recorded_at
            assert now < ends, f"{len(seen)} of {count} rows after {DEADLINE_S:g} s"
        return seen

    async def _received(self) -> int:
        return int((await metrics(self._ingestor.port))["devicestat_ingest_readings_received_total"])

    async def _until_received(self) -> None:
        await eventually(self._received, lambda received: received >= self._expected, DEADLINE_S)
