"""Batches of new readings of a thousand devices, stored by the ingestor's own writer, with fence and journal."""

import asyncio
import itertools
import random
import statistics
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

import msgspec
import psycopg

from ingestor.batch import Batch
from ingestor.delivery.journal import Journal
from ingestor.devices import Devices
from ingestor.metrics import IngestMetrics
from ingestor.storing.database_connection import DatabaseConnection
from ingestor.storing.sampling import Sampler
from ingestor.storing.writer import Writer
from shared.readings.announce import Interest
from shared.readings.rows import pack_row
from shared.readings.store import prepare
from shared.serving.telemetry import Health
from shared.settings import Settings
from tests.benchmarks.cluster.databases import Databases, clear
from tests.benchmarks.cluster.processors import Nodes
from tests.benchmarks.pairs import PAIRS, Finding, Ratio, rounded
from tests.roles import url_as

DEVICES = 1_000
SMALL, USUAL, LARGE = 1_000, 5_000, 20_000
"""Readings of a batch. The ingestor's largest one has BATCH_MAX_READINGS, by default 20,000."""
AT_ONCE = 20_000
"""Readings of one measurement, at least, by all writers."""
FEWEST = 3
"""Batches of each writer in one measurement, at least."""
WRITERS = 4
WANTED = ">= 0.9"
_STAGED_ALWAYS = 1_000_000_000
_ADD_DEVICES = "INSERT INTO devices (key, name) SELECT n, n FROM generate_series(1, %s) n ON CONFLICT DO NOTHING"


class Sample(msgspec.Struct, frozen=True):
    """One measurement: batches a second, and milliseconds of CPU time of a batch."""

    rate: float
    coordinator: float
    nodes: float


class Batches(msgspec.Struct, frozen=True):
    """The way of a benchmark. `writers`: at the same time."""

    size: int
    staged: bool = False
    writers: int = 1
    wanted: str = ""

    @property
    def number(self) -> int:
        """The batches of one writer in one measurement."""
        return max(FEWEST, AT_ONCE // self.size // self.writers)

    @property
    def title(self) -> str:
        way = "through the staging table" if self.staged else "direct COPY"
        by = f", {self.writers} ingestors" if self.writers > 1 else ""
        return f"batches of {self.size:,} new readings, {way}{by}"


ALL = (
    Batches(SMALL), Batches(USUAL, wanted=WANTED), Batches(LARGE, wanted=WANTED), Batches(USUAL, staged=True),
    Batches(SMALL, writers=WRITERS), Batches(USUAL, writers=WRITERS),
)  # fmt: skip


class Costs(msgspec.Struct, frozen=True):
    """CPU time of the coordinator: milliseconds of a batch, however small, and µs of each of its readings.

    `nodes_ms`: that of the other nodes for a batch, however small.
    """

    batch_ms: float
    reading_us: float
    nodes_ms: float


def measure(given: Databases, nodes: Nodes, found: list[Costs]) -> Iterator[Finding]:
    """Measure batches a second. `found` gets what a batch costs."""
    _add_devices(given.plain)
    _add_devices(given.distributed)
    begins = itertools.count(time.time_ns() // 1_000, 1_000_000_000)
    means: dict[int, Sample] = {}
    with asyncio.Runner() as runner:
        for kind in ALL:
            clear(given.plain)
            clear(given.distributed)
            ours, peer = runner.run(_measured(given, nodes, kind, begins))
            rates = [[sample.rate * kind.size for sample in side] for side in (ours, peer)]
            yield Ratio(f"{kind.title}, 8 shards", "one PostgreSQL", "readings/s", *rates, kind.wanted)
            yield _cpu(kind, ours, peer)
            if not kind.staged and kind.writers == 1:
                means[kind.size] = _mean(ours)
    found.append(_costs(means))


def _cpu(kind: Batches, ours: Sequence[Sample], peer: Sequence[Sample]) -> str:
    our, their = _mean(ours), _mean(peer)
    return (
        f"{kind.title}: CPU time of a batch {rounded(our.coordinator)} ms of the coordinator and "
        f"{rounded(our.nodes)} ms of the nodes, on one PostgreSQL {rounded(their.coordinator)} ms; "
        f"{rounded(our.rate)} batches/s, on one PostgreSQL {rounded(their.rate)}"
    )


def _mean(samples: Sequence[Sample]) -> Sample:
    """Return the mean of each figure: the CPU time of a short measurement is in whole hundredths of a second."""
    return Sample(*(statistics.mean(getattr(sample, name) for sample in samples) for name in Sample.__struct_fields__))


def _costs(means: dict[int, Sample]) -> Costs:
    """Return the lines through the costs of small and of large batches."""
    small, large = means[SMALL], means[LARGE]
    batch_ms, each_ms = _line(small.coordinator, large.coordinator)
    return Costs(batch_ms, each_ms * 1_000, _line(small.nodes, large.nodes)[0])


def _line(small: float, large: float) -> tuple[float, float]:
    """Return the cost of a batch without readings, and of each reading."""
    each = (large - small) / (LARGE - SMALL)
    return max(0.0, small - each * SMALL), each


async def _measured(given: Databases, nodes: Nodes, kind: Batches, begins: Iterator[int]) -> list[list[Sample]]:
    """Measure both sides in turn; ours is the first."""
    async with AsyncExitStack() as stack:
        sides = []
        for url in (given.distributed, given.plain):
            writers = [
                await stack.enter_async_context(_writer(url, f"bench-{n}", staged=kind.staged))
                for n in range(kind.writers)
            ]
            sides.append([(writer, _batches(kind.size, next(begins))) for writer in writers])
        rounds = [[await _sample(side, nodes, kind.number) for side in sides] for _ in range(PAIRS + 1)][1:]
    return [list(side) for side in zip(*rounds, strict=True)]


@asynccontextmanager
async def _writer(url: str, client: str, *, staged: bool) -> AsyncIterator[Writer]:
    """Open the ingestor's connection and its journal, as the ingestor does, for the block."""
    settings = Settings(database_url=url_as(url, "ingestor"), mqtt_client_id=client)
    devices, journal = Devices(register=False), Journal(client)
    database = DatabaseConnection(settings.database, Health(), prepare, devices.listen)
    await database.open(settings, asyncio.Event())
    try:
        writer = Writer(database, journal, devices, Interest(), Sampler(60, "+"), IngestMetrics(), settings.mqtt_topic)
        await writer.prepare_session()
        await writer.begin_session()
        if staged:
            writer._staged_batches = _STAGED_ALWAYS
        yield writer
    finally:
        await database.close()


def _batches(size: int, begins: int) -> Iterator[Batch]:
    """Yield batches without end, with times from `begins` on, in µs."""
    chance, at = random.Random(begins), begins
    while True:
        batch = Batch()
        for n in range(size):
            at += 1
            batch.readings.buffer += pack_row(n % DEVICES + 1, at, at, *(chance.random() for _ in "xyz"))
        batch.received = batch.rows = size
        yield batch


async def _sample(side: Sequence[tuple[Writer, Iterator[Batch]]], nodes: Nodes, number: int) -> Sample:
    made = [(writer, [next(batches) for _ in range(number)]) for writer, batches in side]
    before, began = nodes.cpu_s(), time.perf_counter()
    await asyncio.gather(*(_write(writer, batches) for writer, batches in made))
    seconds = time.perf_counter() - began
    total = len(side) * number
    coordinator, others = ((now - then) * 1_000 / total for now, then in zip(nodes.cpu_s(), before, strict=True))
    return Sample(total / seconds, coordinator, others)


async def _write(writer: Writer, batches: Sequence[Batch]) -> None:
    for batch in batches:
        await writer.write(batch)


def _add_devices(url: str) -> None:
    with psycopg.connect(url, autocommit=True) as database:
        database.execute(_ADD_DEVICES, (DEVICES,))
