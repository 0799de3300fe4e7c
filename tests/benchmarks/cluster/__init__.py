"""A database that is distributed over the nodes of a Citus cluster, against a plain one on its coordinator.

DEVICESTAT_TEST_DATABASE_URL names the coordinator, and DEVICESTAT_TEST_CITUS_WORKERS the other nodes
(`tests/citus.py`). As all nodes share this machine, nothing can become faster: the ratios are what distribution costs.

- `databases`: makes the two databases, and drops them.
- `processors`: CPU time of the nodes, which must run on this machine.
- `batches`: batches of a fixed size, as the ingestor stores them.
- `steady`: the ingestor under load, and what a reading costs in each part.
- `reads`: what the API reads, over HTTP, and what sealing costs.
- `sizing`: what a number of readings needs by these costs.
"""

import os
from collections.abc import Iterator

from deploy.local.postgres import EmbeddedPostgres
from tests import citus
from tests.benchmarks.cluster import batches, reads, sizing, steady
from tests.benchmarks.cluster.databases import databases, described
from tests.benchmarks.cluster.processors import Nodes
from tests.benchmarks.pairs import Finding

_URL = "DEVICESTAT_TEST_DATABASE_URL"


def missing() -> str | None:
    """Return what the benchmark lacks; None if a cluster is named."""
    if citus.WORKERS and os.environ.get(_URL):
        return None
    return f"set {_URL} to the URL of a coordinator, as a superuser, and DEVICESTAT_TEST_CITUS_WORKERS to host:port,…"


def measure(_: EmbeddedPostgres) -> Iterator[Finding]:
    """Measure batches, the ingestor and reads, and extrapolate."""
    server = os.environ[_URL]
    nodes = Nodes.of(server)
    with databases(server) as given:
        yield described(given)
        costs: list[batches.Costs] = []
        yield from batches.measure(given, nodes, costs)
        runs: dict[str, steady.Run] = {}
        yield from steady.measure(given, nodes, runs)
        sealing: list[reads.Sealing] = []
        yield from reads.measure(given, nodes, sealing)
        yield from sizing.tables(costs[0], runs, sealing[0])
