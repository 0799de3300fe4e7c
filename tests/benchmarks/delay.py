"""Delay from a PUBLISH to the visible row, at steady rates.

The peer is `mosquitto_sub -q 1 -F "INSERT …" | psql`, which commits each message separately. Both sides run all the
time, each with its own broker, and get messages in turn. A separate connection polls for the rows every few
milliseconds, with the index. The poll adds only its own resolution to the delay, which is printed.
"""

import asyncio
import statistics
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import LiteralString

import msgspec
import psycopg

from deploy.local.postgres import EmbeddedPostgres
from tests.benchmarks import disk, peers
from tests.benchmarks.paced import Publisher, publisher
from tests.benchmarks.pairs import Finding, Ratio, alternate, rounded, target
from tests.benchmarks.servers import broker, clear, settings
from tests.ingestion import IngestorProcess

SECONDS = {10: 20, 100: 15, 1000: 10}
"""Messages of one run, by the rate in messages a second."""
WARM_UP_RATE, WARM_UP_S = 100, 2
LOOK_EVERY_S = 0.002
DEADLINE_S = 60.0
WANTED_MS = {(10, 50): 6.0, (10, 99): 50.0, (100, 50): 6.0, (100, 99): 50.0, (1000, 99): 40.0}
"""Targets by rate and percentile."""
_STATEMENT = "INSERT INTO peer (device_id, recorded_at, received_at, x, y, z) VALUES (1, now(), now(), %p);"


class Run(msgspec.Struct, frozen=True):
    """Delays of one run, in milliseconds."""

    delays: list[float]
    between_looks: list[float]
    syncs: list[float]  # of the disk during the run

    def percentile(self, percent: int) -> float:
        return statistics.quantiles(self.delays, n=100)[percent - 1]


def measure(postgres: EmbeddedPostgres) -> Iterator[Finding]:
    """Measure p50 and p99 in milliseconds, at each rate."""
    with psycopg.connect(postgres.url, autocommit=True) as database, _sides(postgres) as (to_us, to_peer):
        clear(database)
        observer = _Observer(database, postgres.directory)
        for side in (partial(observer.ours, to_us), partial(observer.peer, to_peer)):
            side(WARM_UP_RATE, WARM_UP_S)
        for rate, seconds in SECONDS.items():
            ours, peer = alternate(
                partial(observer.ours, to_us, rate, seconds), partial(observer.peer, to_peer, rate, seconds)
            )
            yield from _findings(rate, ours, peer)


def _findings(rate: int, ours: list[Run], peer: list[Run]) -> Iterator[Finding]:
    for percent in (50, 99):
        mine, theirs = ([run.percentile(percent) for run in runs] for runs in (ours, peer))
        name = f"publish to visible row, {rate} msg/s, p{percent}"
        if (wanted := WANTED_MS.get((rate, percent))) is not None:
            yield Ratio(name, f"{wanted:g} ms", "ms", mine, target(wanted), "<= 1")
        yield Ratio(name, "mosquitto_sub | psql INSERT", "ms", mine, theirs)
    yield _remark(rate, ours, peer)


def _remark(rate: int, ours: list[Run], peer: list[Run]) -> str:
    looks = [gap for run in (*ours, *peer) for gap in run.between_looks]
    every, at_worst = statistics.median(looks), statistics.quantiles(looks, n=100)[98]
    our_syncs, peer_syncs = (", ".join(rounded(max(run.syncs)) for run in runs) for runs in (ours, peer))
    return (
        f"publish to visible row, {rate} msg/s: {len(ours[0].delays):,} messages a run, polled every {every:.1f} ms "
        f"(p99 {at_worst:.1f}). The disk's slowest fdatasync of 4 KiB meanwhile, run by run: "
        f"{our_syncs} ms with Devicestat, {peer_syncs} ms with the peer."
    )


@contextmanager
def _sides(postgres: EmbeddedPostgres) -> Iterator[tuple[Publisher, Publisher]]:
    """A publisher for the broker of each side. Ingestor and peer are subscribed."""
    with ExitStack() as stack:
        our_broker, peer_broker = stack.enter_context(broker()), stack.enter_context(broker())
        ingestor = IngestorProcess(settings(postgres, our_broker))
        stack.callback(lambda: asyncio.run(ingestor.end()))
        asyncio.run(ingestor.until_ready())
        statements = stack.enter_context(peers.subscriber(peer_broker, _STATEMENT))
        stack.enter_context(peers.psql(postgres, statements))
        to_us = stack.enter_context(publisher(our_broker.host, our_broker.port))
        yield to_us, stack.enter_context(publisher(peer_broker.host, peer_broker.port))


# With the unique index: times of receipt increase on both sides.
_IN_READINGS: LiteralString = """
    SELECT recorded_at, x FROM readings WHERE device_id = 1 AND recorded_at > %s ORDER BY recorded_at
"""
_IN_PEER: LiteralString = """
    SELECT recorded_at, x FROM peer WHERE device_id = 1 AND recorded_at > %s ORDER BY recorded_at
"""


class _Observer:
    """Publish to a side, and poll for the rows."""

    def __init__(self, database: psycopg.Connection, directory: Path) -> None:
        self._database = database
        self._directory = directory

    def ours(self, to_us: Publisher, rate: int, seconds: int) -> Run:
        payloads = [b'{"x":%d.%03d,"y":0,"z":0}' % divmod(n, 1000) for n in range(rate * seconds)]
        return self._run(_IN_READINGS, to_us, payloads, rate)

    def peer(self, to_peer: Publisher, rate: int, seconds: int) -> Run:
        payloads = [b"%d.%03d,0,0" % divmod(n, 1000) for n in range(rate * seconds)]
        return self._run(_IN_PEER, to_peer, payloads, rate)

    def _run(self, query: LiteralString, to_side: Publisher, payloads: list[bytes], rate: int) -> Run:
        (began,) = self._database.execute("SELECT now()").fetchone() or (None,)
        with disk.watched(self._directory) as syncs, to_side.run(payloads, rate):
            seen, looks = self._look(query, began, len(payloads))
        delays = [(at - then) * 1000 for at, then in zip(seen, to_side.published, strict=True)]
        return Run(delays, [(b - a) * 1000 for a, b in pairwise(looks)], syncs)

    def _look(self, query: LiteralString, newest: datetime | None, count: int) -> tuple[list[float], list[float]]:
        """Return the times when each row was first visible, and of the polls; both in seconds of time.monotonic."""
        seen: list[float] = []
        looks: list[float] = []
        while len(seen) < count:
            time.sleep(LOOK_EVERY_S)
            rows = self._database.execute(query, (newest,)).fetchall()
            looks.append(time.monotonic())
            for recorded_at, x in rows:
                assert round(x * 1000) == len(seen), "each row appears once, in order"
                seen.append(looks[-1])
                newest = recorded_at
            waited = looks[-1] - looks[0]
            assert waited < DEADLINE_S, f"{len(seen)} of {count} rows after {waited:.0f} s"
        return seen, looks
