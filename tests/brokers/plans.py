"""What is published: each plan gives the n-th message, as the value of a reading and as bytes."""

from collections.abc import Callable

import msgspec

DEVICES = 2_000
RUN = 200
"""Equal readings in a row, each run on a device of its own: so both what is lost and what is stored twice is seen."""
FIRST_TIME_MS = 1_780_000_000_000


class Value(msgspec.Struct, frozen=True):
    """A reading, as it is published and as it is stored: x tells readings of a device apart, or the time does."""

    device: int
    x: float
    time_ms: int | None = None

    @property
    def topic(self) -> str:
        return f"devices/{self.device}/stats"

    @property
    def payload(self) -> bytes:
        at = b"" if self.time_ms is None else b',"timestamp":%d.%03d' % divmod(self.time_ms, 1000)
        return b'{"x":%s,"y":1,"z":2%s}' % (repr(self.x).encode(), at)


Plan = Callable[[int], Value]


def differing(number: int) -> Value:
    """No two readings are equal."""
    millions, rest = divmod(number, 1_000_000)
    return Value(millions + 1, rest / 1000)


def equal(number: int) -> Value:
    """Runs of equal readings."""
    return Value(number // RUN % DEVICES + 1, 1.5)


def timed(number: int) -> Value:
    """Runs of readings that are equal but for their time of measurement."""
    return Value(number // RUN % DEVICES + 1, 1.5, FIRST_TIME_MS + number)


PLANS: dict[str, Plan] = {"values differ": differing, "equal readings": equal, "equal, with timestamps": timed}
