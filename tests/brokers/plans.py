"""Plans of messages: each returns the n-th reading, as a value and as bytes."""

from collections.abc import Callable

import msgspec

DEVICES = 2_000
RUN = 200
"""Length of a run of equal readings. Each run has its own device, so both losses and duplicates are counted."""
FIRST_TIME_MS = 1_780_000_000_000


class Value(msgspec.Struct, frozen=True):
    """A reading, as published and as stored. x or the time distinguishes readings of a device."""

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
    """Distinct readings."""
    millions, rest = divmod(number, 1_000_000)
    return Value(millions + 1, rest / 1000)


def equal(number: int) -> Value:
    """Runs of equal readings."""
    return Value(number // RUN % DEVICES + 1, 1.5)


def timed(number: int) -> Value:
    """Runs of readings that differ only in their timestamps."""
    return Value(number // RUN % DEVICES + 1, 1.5, FIRST_TIME_MS + number)


PLANS: dict[str, Plan] = {"values differ": differing, "equal readings": equal, "equal, with timestamps": timed}
