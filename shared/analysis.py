"""The analysis of a device's readings: min, max, sum, count and median of each axis, exact, in one pass.

**Sum.** A plain sum(float8) loses digits where positive and negative readings cancel, and depends on the
order in which rows come. Each value is split, exactly, into a multiple of 2^-10 and a remainder below
2^-11. The multiples add up without any rounding (up to 2^33 readings at the axis limit), and what the
remainders' rounding can lose is below 2^-53 of their own small sum.

**Median.** percentile_cont interpolates with a + 0.5 * (b - a), which rounds twice; the median of an even
count is (a + b) / 2, which rounds once. percentile_disc with an array sorts once and gives both middle
values: at 0.5 the lower one, and just above it the upper one (of an odd count, the same value again).
"""

from datetime import datetime

import msgspec

from shared.database import Connection


class Figures(msgspec.Struct, frozen=True):
    """Of one axis over a period. No readings: count 0, sum 0.0, the others None."""

    min: float | None
    max: float | None
    sum: float
    count: int
    median: float | None


class Analysis(msgspec.Struct, frozen=True):
    """The figures of the three axes."""

    x: Figures
    y: Figures
    z: Figures


_ANALYSE = """
    SELECT count(*),
           min(x), max(x), sum(round(x * 1024)) / 1024 + sum(x - round(x * 1024) / 1024),
           percentile_disc(ARRAY[0.5, 0.5000000001]) WITHIN GROUP (ORDER BY x),
           min(y), max(y), sum(round(y * 1024)) / 1024 + sum(y - round(y * 1024) / 1024),
           percentile_disc(ARRAY[0.5, 0.5000000001]) WITHIN GROUP (ORDER BY y),
           min(z), max(z), sum(round(z * 1024)) / 1024 + sum(z - round(z * 1024) / 1024),
           percentile_disc(ARRAY[0.5, 0.5000000001]) WITHIN GROUP (ORDER BY z)
    FROM readings
    WHERE device_id = %(device_id)s
      AND recorded_at >= coalesce(%(start)s::timestamptz, '-infinity')
      AND recorded_at <= coalesce(%(end)s::timestamptz, 'infinity')
"""


async def analyse(connection: Connection, device_id: int, start: datetime | None, end: datetime | None) -> Analysis:
    """The figures of the device's readings from start to end, both included; None leaves that side open."""
    cursor = await connection.execute(_ANALYSE, {"device_id": device_id, "start": start, "end": end})
    row = await cursor.fetchone()
    assert row is not None, "an aggregate without GROUP BY has one row"
    count = row[0]
    return Analysis(*(_figures(count, *row[at : at + 4]) for at in (1, 5, 9)))


def _figures(
    count: int, low: float | None, high: float | None, total: float | None, middle: list[float] | None
) -> Figures:
    median = (middle[0] + middle[1]) / 2 if middle else None
    return Figures(min=low, max=high, sum=total or 0.0, count=count, median=median)
