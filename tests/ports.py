"""Ports for servers of a test.

They are below the ephemeral ports of the kernel (from 32768 on Linux, 49152 on macOS), so no connection uses the port
of a server that starts or restarts. Each worker of pytest-xdist has its own range.
"""

import os
import random
import socket
from collections.abc import Iterator
from itertools import cycle

FIRST = 16_000
WORKERS = 16
EACH = 1_000
"""Number of ports of a worker."""


def _own_range() -> Iterator[int]:
    """Return the worker's ports cyclically, from a random one on, so that concurrent runs rarely conflict."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % WORKERS
    first = FIRST + EACH * worker
    ports = range(first, first + EACH)
    began = random.Random().randrange(EACH)
    return cycle([*ports[began:], *ports[:began]])


_ports = _own_range()


def free_port() -> int:
    """Return a port of 127.0.0.1 on which nothing listens, and that was not returned recently."""
    return next(port for port in _ports if _is_free(port))


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
