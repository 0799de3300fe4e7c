"""What a number of readings needs, by the costs that the other modules have measured.

Extrapolated, by these formulas:

- Processors of the brokers, ingestors, coordinator and nodes: readings/s, times µs of CPU time of a reading, / 10**6,
  / BUSY. More shards than SHARDS add to the coordinator and the nodes: batches/s, times ms of a batch without
  readings, times shards / SHARDS - 1.
- Disk of the nodes: readings, times bytes of a row, its entry in the index and its share of a block.
- Nodes: as many as the disk or the processors need, at least two. Shards: at least two for each node and SHARDS, a
  power of two.
"""

import math
from collections.abc import Iterator, Mapping

from shared.status.words import counted
from tests.benchmarks.cluster.batches import LARGE, SMALL, USUAL, Costs
from tests.benchmarks.cluster.databases import SHARDS
from tests.benchmarks.cluster.reads import Sealing
from tests.benchmarks.cluster.steady import Run
from tests.benchmarks.costs import BUSY
from tests.benchmarks.pairs import Grid, rounded

RATE = 100_000
"""Readings a second: 100,000 devices, each a reading every second."""
TOTALS = (10**9, 10**11, 10**12)
PROCESSORS = 8
DISK_TB = 10
"""Of a node."""
_HEADINGS = (
    "readings kept", "time at this rate", "messages", "brokers", "ingestors", "processors of the coordinator",
    "processors of the nodes", "disk of the nodes", "nodes", "shards", "write-ahead log",
)  # fmt: skip


def tables(costs: Costs, runs: Mapping[str, Run], sealing: Sealing) -> Iterator[Grid | str]:
    """Print what the totals need, and what bounds the coordinator."""
    title = (
        f"Extrapolated for {RATE:,} readings/s (100,000 devices at 1 Hz), half of each processor planned for, nodes "
        f"of {PROCESSORS} processors and {DISK_TB} TB"
    )
    rows = [_row(total, name, run, costs, sealing) for total in TOTALS for name, run in runs.items()]
    yield Grid(title, _HEADINGS, rows)
    yield from _bounds(costs)


def _row(total: int, name: str, run: Run, costs: Costs, sealing: Sealing) -> tuple[str, ...]:
    disk = total * (run.table + run.index + sealing.size) / 1e12
    of_nodes = _processors(RATE * (run.nodes + sealing.nodes))
    nodes = max(2, math.ceil(disk / DISK_TB), math.ceil(of_nodes / PROCESSORS))
    shards = max(SHARDS, 2 ** math.ceil(math.log2(2 * nodes)))
    more = RATE / run.batch * 1_000 * (shards / SHARDS - 1)
    return (
        f"{total:,}", _lasting(total / RATE), name,
        str(_whole(RATE * run.broker)), str(_whole(RATE * run.ingestor)),
        rounded(_processors(RATE * (run.coordinator + sealing.coordinator) + more * costs.batch_ms)),
        rounded(of_nodes + _processors(more * costs.nodes_ms)), f"{rounded(disk)} TB", str(nodes), str(shards),
        f"{rounded(RATE * run.wal / 1e6)} MB/s",
    )  # fmt: skip


def _processors(us_a_second: float) -> float:
    return us_a_second / 1e6 / BUSY


def _whole(us_a_second: float) -> int:
    """Return the number of processes of one thread."""
    return math.ceil(_processors(us_a_second))


def _lasting(seconds: float) -> str:
    hours = seconds / 3_600
    return f"{hours:.1f} hours" if hours < 48 else f"{hours / 24:,.0f} days"


def _bounds(costs: Costs) -> Iterator[str]:
    """Say how many batches, and readings in them, one processor of the coordinator commits."""
    yield (
        f"a batch costs the coordinator {rounded(costs.batch_ms)} ms of CPU time over {SHARDS} shards, and each of its "
        f"readings {rounded(costs.reading_us)} µs more; it costs the nodes {rounded(costs.nodes_ms)} ms"
    )
    for size in (1, SMALL, USUAL, LARGE):
        batches = 1_000 / (costs.batch_ms + costs.reading_us * size / 1_000)
        yield (
            f"extrapolated: a processor of the coordinator commits {rounded(batches)} batches/s of "
            f"{counted(size, 'reading')}, {rounded(batches * size)} readings/s"
        )
