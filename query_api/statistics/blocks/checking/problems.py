"""What is wrong with the blocks of a device."""

import msgspec

from query_api.statistics.blocks.layout import MINI
from shared.readings.model import Microseconds, to_datetime


class Problem(msgspec.Struct, frozen=True):
    """A fault of the blocks of a device. `at`: the time of the first reading that it is about."""

    device_id: int
    at: Microseconds
    text: str

    def __str__(self) -> str:
        """Return one line."""
        return f"device {self.device_id}, {shown(self.at)}: {self.text}"


def shown(at: Microseconds) -> str:
    """Return the time as in answers of the API."""
    return f"{to_datetime(at):%Y-%m-%dT%H:%M:%S.%fZ}"


def name_of(level: int) -> str:
    """Return the name of a block of this level."""
    return "the mini block" if level == MINI else f"the block of level {level}"
