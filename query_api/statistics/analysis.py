"""The analysis of devices' readings: the figures of each axis (`figures.py`), from blocks and rows in one snapshot."""

from collections.abc import Sequence
from datetime import datetime

import msgspec

from query_api.statistics.blocks.computing import OF_AN_ITEM, computed
from query_api.statistics.blocks.reading.cover import ONE_PLAN
from query_api.statistics.blocks.reading.items import Items
from query_api.statistics.blocks.reading.snapshot import snapshot
from query_api.statistics.blocks.reading.statistics import AxisStatistics, read_statistics
from query_api.statistics.figures import FIVE, FigureNames, Figures, read_figures
from query_api.statistics.source import Source
from shared.postgres.connections import Connection
from shared.readings.model import Microseconds, to_microseconds


class Analysis(msgspec.Struct, frozen=True):
    """The figures of the three axes."""

    x: Figures
    y: Figures
    z: Figures


async def analyse(
    connection: Connection,
    device: int | Sequence[int],
    start: datetime | None,
    end: datetime | None,
    wanted: FigureNames = FIVE,
    source: Source | None = None,
) -> Analysis:
    """Return the figures of the readings of one device, or of several devices together, from start to end.

    Both ends are included. None leaves that side open. `source`: the number of readings is added to it. Raises
    UnknownDevices.
    """
    devices = [device] if isinstance(device, int) else list(device)
    (analysis,) = await _analyse(connection, Items.together(devices, _moment(start), _moment(end)), wanted, source)
    return analysis


async def analyse_each(
    connection: Connection,
    devices: Sequence[int],
    start: datetime | None,
    end: datetime | None,
    wanted: FigureNames = FIVE,
    source: Source | None = None,
) -> dict[int, Analysis]:
    """Return the figures of each device, in the order given. Raises UnknownDevices."""
    found = await _analyse(connection, Items.each(list(devices), _moment(start), _moment(end)), wanted, source)
    return dict(zip(devices, found, strict=True))


class Asked(msgspec.Struct, frozen=True):
    """A device and a period, both ends included. None leaves a side open."""

    device_id: int
    start: datetime | None
    end: datetime | None


async def analyse_several(connection: Connection, asked: Sequence[Asked], wanted: FigureNames = FIVE) -> list[Analysis]:
    """Return the figures of each device over its own period. Raises UnknownDevices."""
    starts, ends = ([_moment(at) for at in side] for side in zip(*((one.start, one.end) for one in asked), strict=True))
    items = Items.of_periods([one.device_id for one in asked], starts, ends)
    return await _analyse(connection, items, wanted, None)


async def _analyse(connection: Connection, items: Items, wanted: FigureNames, source: Source | None) -> list[Analysis]:
    async with snapshot(connection, ONE_PLAN):
        return await analyse_items(connection, items, wanted, source)


async def analyse_items(
    connection: Connection, items: Items, wanted: FigureNames, source: Source | None = None
) -> list[Analysis]:
    """Return the figures of each group of the items, in the caller's snapshot. Raises UnknownDevices.

    `source`: the numbers of readings are added to it.
    """
    found = await read_statistics(connection, items, wanted.needs)
    if source is not None:
        source.add(found.from_blocks, found.from_rows)
    return await computed(OF_AN_ITEM * items.count, lambda: [_analysis(wanted, group) for group in found.groups])


def _analysis(wanted: FigureNames, group: Sequence[AxisStatistics] | None) -> Analysis:
    axes: Sequence[AxisStatistics | None] = group or [None] * 3
    return Analysis(*(read_figures(wanted, axis) for axis in axes))


def _moment(at: datetime | None) -> Microseconds | None:
    return None if at is None else to_microseconds(at)
