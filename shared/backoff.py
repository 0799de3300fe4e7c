"""Delays between retries: exponential with full jitter, so that the clients of a server retry at different times.

https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
"""

import random
from collections.abc import Iterator

BASE_S = 0.1
CAP_S = 10.0


def backoff(base: float = BASE_S, cap: float = CAP_S) -> Iterator[float]:
    """Return the delays before further attempts, in seconds, without end; none is longer than `cap`."""
    longest = base
    while True:
        yield random.uniform(0, longest)  # noqa: S311  # spreads load, guards nothing
        longest = min(cap, longest * 2)
