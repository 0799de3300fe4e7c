"""Gaps in the readings of a device: distances of neighbouring readings that are longer than usual.

The usual distance is the median of samples: at SAMPLES equally spaced times of the period, the distances of the next
readings. So it does not depend on which readings are sealed, and costs the same for any number of readings.

A gap is longer than FACTOR usual distances, and longer than a span of the curve. The outline of sealed readings has the
readings on both sides of such a gap (`query_api.statistics.blocks.reading.curves`). So the gaps are exact, although the
outline lacks most readings.
"""

from datetime import datetime, timedelta

import msgspec
import numpy as np

from query_api.readings.plots.downsampling import Times
from shared.postgres.connections import Connection
from shared.readings.model import Microseconds, duration

FACTOR = 5
SAMPLES = 64
NEIGHBOURS = 8
"""Distances of each sample, at most."""


class Gap(msgspec.Struct, frozen=True):
    """The times of the readings before and after a gap."""

    start: Microseconds
    end: Microseconds


class Gaps:
    """Collects the gaps of readings that are added in order."""

    def __init__(self, longer_than: Microseconds) -> None:
        self.longer_than = longer_than
        self.found: list[Gap] = []
        self._last: Times = np.empty(0, np.int64)

    def add(self, times: Times) -> None:
        """Add the times of readings, in any order, none before the last one that was added."""
        times = np.sort(np.concatenate((self._last, times)), kind="stable")
        places = np.flatnonzero(np.diff(times) > self.longer_than)
        self.found += map(Gap, times[places].tolist(), times[places + 1].tolist())
        self._last = times[-1:]


# Distances of 0 are between readings of one time.
USUAL = """
    SELECT percentile_disc(0.5) WITHIN GROUP (ORDER BY distance) FROM (
        SELECT recorded_at - lag(recorded_at) OVER (PARTITION BY sample.at ORDER BY recorded_at) AS distance
        FROM unnest(%(samples)s::timestamptz[]) AS sample (at) CROSS JOIN LATERAL (
            SELECT recorded_at FROM readings
            WHERE device_id = %(device_id)s AND recorded_at >= sample.at
              AND recorded_at >= %(first)s AND recorded_at <= %(last)s
            ORDER BY recorded_at LIMIT %(near)s
        ) AS near
    ) AS one WHERE distance > interval '0'
"""


async def usual_distance(connection: Connection, device_id: int, first: datetime, last: datetime) -> Microseconds:
    """Return the usual distance of the device's readings from `first` to `last`; 0 if all are of one time."""
    parameters = usual_parameters(device_id, first, last)
    row = await (await connection.execute(USUAL, parameters, prepare=False)).fetchone()
    usual: timedelta | None = row[0] if row else None
    return 0 if usual is None else duration(usual)


def usual_parameters(device_id: int, first: datetime, last: datetime) -> dict[str, object]:
    """Return the parameters of USUAL."""
    samples = [first + (last - first) * number / SAMPLES for number in range(SAMPLES)]
    return {"device_id": device_id, "first": first, "last": last, "samples": samples, "near": NEIGHBOURS + 1}
