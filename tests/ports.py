"""Ports for servers of a test.

They lie below those that a kernel gives out by itself (from 32768 on Linux, 49152 on macOS): what a test connects
from can never take the port that a server is about to listen on, or comes back to after a restart. Each worker of
pytest-xdist has a range of its own.
"""

import os
import random
import socket
from collections.abc import Iterator
from itertools import cycle

FIRST = 16_000
WORKERS = 16
EACH = 1_000
"""Ports of a worker."""


def _own_range() -> Iterator[int]:
    """The worker's ports, over and over, from a random one on: two runs at once seldom meet."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % WORKERS
    first = FIRST + EACH * worker
    ports = range(first, first + EACH)
    began = random.Random().randrange(EACH)
    return cycle([*ports[began:], *ports[:began]])


_ports = _own_range()


def free_port() -> int:
    """A port of 127.0.0.1 that nothing listens on, and that was not given out lately."""
    return next(port for port in _ports if _is_free(port))


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
