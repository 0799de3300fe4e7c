"""The periods of devices that are to be summarized."""

from typing import Self

import msgspec
import numpy as np

from query_api.statistics.blocks.layout import Ints, Times
from shared.postgres.arrays import EARLIEST, LATEST
from shared.readings.model import Microseconds


class Items(msgspec.Struct, frozen=True):
    """Columns of equal length: a device, its period with both ends included, and the group that it counts for.

    Groups are numbered from 0 to `count`.
    """

    devices: Ints
    starts: Times
    ends: Times
    groups: Ints
    count: int

    @classmethod
    def together(cls, devices: list[int], start: Microseconds | None, end: Microseconds | None) -> Self:
        """Return one group of all devices over one period. None leaves a side open."""
        return cls._of(devices, start, end, np.zeros(len(devices), np.int64), 1)

    @classmethod
    def each(cls, devices: list[int], start: Microseconds | None, end: Microseconds | None) -> Self:
        """Return a group for each device over one period. None leaves a side open."""
        return cls._of(devices, start, end, np.arange(len(devices)), len(devices))

    @classmethod
    def of_periods(cls, devices: list[int], starts: list[Microseconds | None], ends: list[Microseconds | None]) -> Self:
        """Return a group for each device over its own period. None leaves a side open."""
        return cls(
            np.array(devices, np.int64),
            np.array([EARLIEST if start is None else start for start in starts], np.int64),
            np.array([LATEST if end is None else end for end in ends], np.int64),
            np.arange(len(devices)),
            len(devices),
        )

    def at(self, places: Ints) -> Self:
        """Return the items in these places."""
        return type(self)(self.devices[places], self.starts[places], self.ends[places], self.groups[places], self.count)

    @classmethod
    def _of(
        cls, devices: list[int], start: Microseconds | None, end: Microseconds | None, groups: Ints, count: int
    ) -> Self:
        starts = np.full(len(devices), EARLIEST if start is None else start, np.int64)
        ends = np.full(len(devices), LATEST if end is None else end, np.int64)
        return cls(np.array(devices, np.int64), starts, ends, groups, count)
