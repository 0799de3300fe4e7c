"""Ports for servers of a test.

They are below the ephemeral ports of the kernel (from 32768 on Linux, 49152 on macOS), so no connection uses the port
of a server that starts or restarts. Each process of each run on the machine has a range of its own.
"""

import socket
from itertools import cycle

FIRST = 16_000
RANGES = 32
EACH = 500
"""Number of ports of a process."""


class _OwnRange:
    """A range of ports that no other process uses. It keeps the first one bound, as the sign that it is taken."""

    def __init__(self) -> None:
        for first in range(FIRST, FIRST + RANGES * EACH, EACH):
            if sign := _bound(first):
                self._sign = sign
                self.ports = cycle(range(first + 1, first + EACH))
                return
        raise RuntimeError(f"all {RANGES} ranges of ports from {FIRST} are taken: end other runs of the tests")


def free_port() -> int:
    """Return a port of 127.0.0.1 on which nothing listens, and that was not returned recently."""
    return next(port for port in _own.ports if _is_free(port))


def _is_free(port: int) -> bool:
    probe = _bound(port)
    if probe:
        probe.close()
    return probe is not None


def _bound(port: int) -> socket.socket | None:
    bound = socket.socket()
    try:
        bound.bind(("127.0.0.1", port))
    except OSError:
        bound.close()
        return None
    return bound


_own = _OwnRange()
