"""CPU time of the nodes' processes. All nodes must run on this machine."""

from collections.abc import Sequence
from typing import Self

import msgspec
import psutil
import psycopg

from tests import citus
from tests.benchmarks.costs import cpu_s

_PID = "SELECT pg_backend_pid()"


class Nodes(msgspec.Struct, frozen=True):
    """The server processes of the coordinator and of the other nodes."""

    coordinator: psutil.Process
    others: Sequence[psutil.Process]

    @classmethod
    def of(cls, server: str) -> Self:
        """Find them. Exits with the reason if a node runs elsewhere."""
        *others, coordinator = (_postmaster(node) for node in citus.nodes(server))
        return cls(coordinator, others)

    def cpu_s(self) -> tuple[float, float]:
        """Return the CPU time of the coordinator, and of all other nodes together."""
        return cpu_s(self.coordinator), sum(cpu_s(node) for node in self.others)


def _postmaster(url: str) -> psutil.Process:
    with psycopg.connect(url) as connection:
        (pid,) = connection.execute(_PID).fetchone() or (0,)
        backend = psutil.Process(pid) if psutil.pid_exists(pid) else None
        found = None if backend is None else backend.parent()
    if found is None or found.name() != "postgres":
        raise SystemExit(f"{url} does not run on this machine, where its CPU time is measured")
    return found
