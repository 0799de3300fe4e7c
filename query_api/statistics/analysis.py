"""The analysis of devices' readings: the figures of each axis (`figures.py`), in one statement and one pass."""

from collections.abc import Container, Sequence
from datetime import datetime
from functools import cache
from typing import Any

import msgspec

from query_api.errors import UnknownDevices
from query_api.statistics.figures import FIVE, FigureNames, Figures, columns, read_axes
from shared.postgres.connections import Connection
from shared.readings.extents import extent_of


class Analysis(msgspec.Struct, frozen=True):
    """The figures of the three axes."""

    x: Figures
    y: Figures
    z: Figures


# The statement looks up the devices, too: a device that was just deleted may still have readings.
_TOGETHER = """
    SELECT ARRAY(SELECT id FROM devices WHERE id = ANY(%(devices)s::bigint[])), {figures}
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
    """Return the figures of the readings of one device, or of several devices together, from start to end.

    Both ends are included. None leaves that side open. Raises UnknownDevices.
    """
    devices = [device] if isinstance(device, int) else list(device)
    [(known, *found)] = await _run(connection, _TOGETHER, devices, start, end, wanted)
    _require(devices, known)
    return Analysis(*read_axes(wanted, found))


_EACH = """
    SELECT devices.id, found.*
    FROM devices LEFT JOIN (
        SELECT device_id, {figures}
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
    """Return the figures of each device, in the order given. Raises UnknownDevices."""
    rows = await _run(connection, _EACH, devices, start, end, wanted)
    each = {device: Analysis(*read_axes(wanted, found)) for device, _, *found in rows}
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
    query = _with_figures(statement, wanted.fields)
    first, last = (await extent_of(connection, devices)).within(start, end)
    parameters = {"devices": devices, "start": first, "end": last, "fractions": wanted.fractions}
    # Not prepared: a generic plan locks every month before it prunes those outside of the period.
    cursor = await connection.execute(query, parameters, prepare=False, binary=True)
    return await cursor.fetchall()


@cache
def _with_figures(statement: str, fields: tuple[str, ...]) -> bytes:
    """Return the statement with the figures of these fields. It is composed of constants."""
    return statement.format(figures=columns(fields)).encode()
