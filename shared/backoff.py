"""How long to wait before trying again: exponential, with full jitter, so that many who lost the same
server do not come back to it at one moment.

https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
"""

import random
from collections.abc import Iterator

BASE_S = 0.1
CAP_S = 10.0


def backoff(base: float = BASE_S, cap: float = CAP_S) -> Iterator[float]:
    """Seconds to wait before each further attempt, for ever; none is longer than `cap`."""
    longest = base
    while True:
        yield random.uniform(0, longest)  # noqa: S311  # spreads load, guards nothing
        longest = min(cap, longest * 2)
