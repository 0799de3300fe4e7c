"""The analysis of devices' readings: the figures of each axis, exact, in one statement and one pass.

**Sum.** A plain sum(float8) loses digits where positive and negative readings cancel, and depends on the
order in which rows come. Each value is split, exactly, into a multiple of 2^-10 and a remainder below
2^-11. The multiples add up without any rounding (up to 2^33 readings at the axis limit), and what the
remainders' rounding can lose is below 2^-53 of their own small sum.

**Median.** percentile_cont interpolates with a + 0.5 * (b - a), which rounds twice; the median of an even
count is (a + b) / 2, which rounds once. percentile_disc with an array sorts once and gives both middle
values: at 0.5 the lower one, and just above it the upper one (of an odd count, the same value again).

**On request.** The mean is the sum over the count. stddev_samp adds up by the method of Youngs and Cramer,
which is stable where the values lie close together and far from 0. percentile_cont shares the median's sort.
"""

from collections.abc import Container, Sequence
from datetime import datetime
from functools import cache
from typing import Any

import msgspec
from msgspec import UNSET

from query_api.errors import UnknownDevices
from query_api.statistics.figures import FIVE, FigureNames, Figures
from shared.postgres.connections import Connection
from shared.readings.extents import extent_of


class Analysis(msgspec.Struct, frozen=True):
    """The figures of the three axes."""

    x: Figures
    y: Figures
    z: Figures


# The devices are looked up in the same statement: of one that was just deleted there may still be readings.
_TOGETHER = """
    SELECT ARRAY(SELECT id FROM devices WHERE id = ANY(%(devices)s::bigint[])), count(*), {figures}
    FROM readings
    WHERE device_id = ANY(%(devices)s::bigint[])
      AND recorded_at >= coalesce(%(start)s::timestamptz, '-infinity')
      AND recorded_at <= coalesce(%(end)s::timestamptz, 'infinity')
"""


async def analyse(
    connection: Connection,
    device: int | Sequence[int],
    start: datetime | None,
    end: datetime | None,
    wanted: FigureNames = FIVE,
) -> Analysis:
    """The figures of the device's readings, or of several devices' together, from start to end.

    Both ends are included; None leaves that side open. Raises UnknownDevices.
    """
    devices = [device] if isinstance(device, int) else list(device)
    [(known, *found)] = await _run(connection, _TOGETHER, devices, start, end, wanted)
    _require(devices, known)
    return _analysis(wanted, *found)


_EACH = """
    SELECT devices.id, coalesce(found.count, 0), found.*
    FROM devices LEFT JOIN (
        SELECT device_id, count(*), {figures}
        FROM readings
        WHERE device_id = ANY(%(devices)s::bigint[])
          AND recorded_at >= coalesce(%(start)s::timestamptz, '-infinity')
          AND recorded_at <= coalesce(%(end)s::timestamptz, 'infinity')
        GROUP BY device_id
    ) AS found ON found.device_id = devices.id
    WHERE devices.id = ANY(%(devices)s::bigint[])
"""


async def analyse_each(
    connection: Connection,
    devices: Sequence[int],
    start: datetime | None,
    end: datetime | None,
    wanted: FigureNames = FIVE,
) -> dict[int, Analysis]:
    """The figures of each device's readings, by the device, in the order given. Raises UnknownDevices."""
    rows = await _run(connection, _EACH, devices, start, end, wanted)
    each = {device: _analysis(wanted, count, *found) for device, count, _, _, *found in rows}
    _require(devices, each)
    return {device: each[device] for device in devices}


def _require(devices: Sequence[int], known: Container[int]) -> None:
    if unknown := [device for device in devices if device not in known]:
        raise UnknownDevices(unknown)


async def _run(
    connection: Connection,
    statement: str,
    devices: Sequence[int],
    start: datetime | None,
    end: datetime | None,
    wanted: FigureNames,
) -> list[tuple[Any, ...]]:
    query = _with_figures(statement, wanted.stddev, bool(wanted.percentiles))
    first, last = (await extent_of(connection, devices)).within(start, end)
    parameters = {"devices": devices, "start": first, "end": last, "fractions": wanted.fractions}
    # Not prepared: a generic plan locks every month before it finds out which ones the period leaves.
    cursor = await connection.execute(query, parameters, prepare=False, binary=True)
    return await cursor.fetchall()


_FIVE = """
    min({axis}), max({axis}),
    sum(round({axis} * 1024)) / 1024 + sum({axis} - round({axis} * 1024) / 1024),
    percentile_disc(ARRAY[0.5, 0.5000000001]) WITHIN GROUP (ORDER BY {axis})"""
_STDDEV = "stddev_samp({axis})"
_PERCENTILES = "percentile_cont(%(fractions)s::float8[]) WITHIN GROUP (ORDER BY {axis})"
_COLUMNS = 6
"""Of an axis."""


@cache
def _with_figures(statement: str, stddev: bool, percentiles: bool) -> bytes:
    """The statement, composed of the constants above; what is not wanted is not computed."""
    columns = ", ".join((_FIVE, _STDDEV if stddev else "NULL", _PERCENTILES if percentiles else "NULL"))
    return statement.format(figures=", ".join(columns.format(axis=axis) for axis in "xyz")).encode()


def _analysis(wanted: FigureNames, count: int, *columns: Any) -> Analysis:
    return Analysis(*(_figures(wanted, count, *columns[at : at + _COLUMNS]) for at in range(0, 3 * _COLUMNS, _COLUMNS)))


def _figures(
    wanted: FigureNames,
    count: int,
    low: float | None,
    high: float | None,
    total: float | None,
    middle: list[float] | None,
    stddev: float | None,
    ranked: list[float] | None,
) -> Figures:
    median = (middle[0] + middle[1]) / 2 if middle else None
    if wanted is FIVE:
        return Figures(low, high, total or 0.0, count, median)
    values: Sequence[float | None] = ranked or [None] * len(wanted.percentiles)
    return Figures(
        low, high, total or 0.0, count, median,
        mean=(total / count if total is not None else None) if wanted.mean else UNSET,
        stddev=stddev if wanted.stddev else UNSET,
        percentiles=dict(zip(wanted.percentiles, values, strict=True)) if wanted.percentiles else UNSET,
    )  # fmt: skip
