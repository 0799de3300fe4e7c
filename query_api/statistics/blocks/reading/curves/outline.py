"""The readings of a device from which the least and the greatest of each span of time follow, in order.

A stride that lies within a span, and holds no late reading, stands for its extremes. All readings of the other strides
are read: those across the end of a span, at the ends of the period, and beside late readings.
"""

from collections.abc import AsyncIterator, Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from query_api.statistics.blocks.building import EXTREMES, Columns
from query_api.statistics.blocks.computing import computed
from query_api.statistics.blocks.damage import DamagedBlocks, narrowed, require_times
from query_api.statistics.blocks.layout import AXES, STANDARD, Floats, Ints, Layout, Times, spread
from query_api.statistics.blocks.reading.curves.strides import COLUMNS, Chosen, Page, Spans, Strides
from query_api.statistics.blocks.reading.slices import TIMES, read_columns, read_extremes
from shared.postgres import arrays
from shared.postgres.arrays import EARLIEST, Moment
from shared.postgres.connections import Connection
from shared.readings.model import Microseconds


class Limits(msgspec.Struct, frozen=True):
    """Limits of one read, which tests lower. `blocks`: of one page. `readings`: that are read together."""

    blocks: int = 1024
    readings: int = 1 << 17


LIMITS = Limits()


class Outline(msgspec.Struct, frozen=True):
    """Some readings of a part of the period, which has `count`. `axes`: times and values of x, y and z, in order."""

    count: int
    axes: Sequence[tuple[Times, Floats]]


async def read_sealed(connection: Connection, device_id: int) -> Microseconds:
    """Return the time before which `read_outline` has the readings of the device."""
    async with arrays.cursor(connection) as cursor:
        row = await (await cursor.execute(_SEALED, (device_id,))).fetchone()
    return EARLIEST if row is None else row[0]


_SEALED = "SELECT sealed FROM sealed_devices WHERE device_id = %s"


async def read_outline(
    connection: Connection,
    device_id: int,
    spans: Spans,
    most: int,
    *,
    layout: Layout = STANDARD,
    limits: Limits = LIMITS,
) -> AsyncIterator[Outline]:
    """Yield the sealed and the late readings from spans.first to spans.last, in the caller's snapshot.

    Up to `most` readings, all of them are in the outlines. Raises DamagedBlocks.
    """
    late = await _late(connection, device_id, spans)
    before, count = EARLIEST, 0
    async for page in _pages(connection, device_id, spans, limits.blocks, layout):
        strides = Strides.of(page, spans, layout)
        of_late = _between(late, before, page.until)
        needed = strides.needed(spans, of_late.times)
        if count + int(strides.size[~strides.is_cut(spans)].sum()) <= most:
            needed[:] = True
        for part in strides.parts(needed, limits.readings):
            last = page.until if part.stop == len(strides.start) else int(strides.start[part.stop]) - 1
            own = _between(of_late, before, last)
            outline = await _read(connection, device_id, strides.taken(part), needed[part], own, spans, layout)
            before, count = last, count + outline.count
            yield outline
    rest = _between(late, before, spans.last)
    if len(rest):
        yield Outline(len(rest), [(rest.times, values) for values in rest.axes])


_LATE = """
    SELECT array_agg(recorded_at), array_agg(x), array_agg(y), array_agg(z) FROM (
        SELECT recorded_at, x, y, z FROM late_readings
        WHERE device_id = %(device_id)s AND recorded_at >= %(first)s AND recorded_at <= %(last)s
          AND recorded_at < (SELECT sealed FROM sealed_devices WHERE device_id = %(device_id)s)
    ) AS late
"""


async def _late(connection: Connection, device_id: int, spans: Spans) -> Columns:
    parameters = {"device_id": device_id, "first": Moment(spans.first), "last": Moment(spans.last)}
    async with arrays.cursor(connection) as cursor:
        row = await (await cursor.execute(_LATE, parameters)).fetchone()
    if row is None or row[0] is None:
        return Columns(np.empty(0, np.int64), *np.empty((len(AXES), 0)))
    return Columns.ordered(*row)


def _between(columns: Columns, after: Microseconds, last: Microseconds) -> Columns:
    """Return the readings after the one time, up to the other."""
    begin, end = np.searchsorted(columns.times, [after, last], side="right")
    return columns[int(begin) : int(end)]


# The newest block of each level that begins before the period may reach into it. Older ones do not.
_BLOCKS = """
    SELECT array_agg(level::integer), array_agg(first), array_agg(last), array_agg(count), string_agg(times, '')
    FROM (
        SELECT level, first, last, count, times FROM blocks
        WHERE device_id = %(device_id)s AND level IN (0, 1) AND first <= %(last)s AND last >= %(first)s
          AND first > %(after)s AND first >= least(
              coalesce((SELECT max(first) FROM blocks WHERE device_id = %(device_id)s AND level = 0
                        AND first <= %(first)s), 'infinity'),
              coalesce((SELECT max(first) FROM blocks WHERE device_id = %(device_id)s AND level = 1
                        AND first <= %(first)s), 'infinity'), %(first)s)
        ORDER BY first LIMIT %(blocks)s
    ) AS block
"""


async def _pages(
    connection: Connection, device_id: int, spans: Spans, blocks: int, layout: Layout
) -> AsyncIterator[Page]:
    """Yield the blocks of levels MINI and BASE that reach into the period."""
    parameters = {
        "device_id": device_id, "first": Moment(spans.first), "last": Moment(spans.last),
        "after": Moment(EARLIEST), "blocks": blocks,
    }  # fmt: skip
    more = True
    while more:
        async with arrays.cursor(connection) as cursor:
            row = await (await cursor.execute(_BLOCKS, parameters, prepare=False)).fetchone()
        if row is None or row[0] is None:
            return
        level, first, last, count, times = row
        try:
            require_times(device_id, level, first, count, times, layout)
        except DamagedBlocks as error:
            raise await narrowed(connection, error, layout) from None
        yield Page(level, first, last, count, np.frombuffer(times, "<i8"))
        more, parameters["after"] = len(level) == blocks, Moment(int(first[-1]))


class Readings(msgspec.Struct, frozen=True):
    """Readings in order, with their places among those of all blocks."""

    columns: Columns
    places: Ints


async def _read(
    connection: Connection,
    device_id: int,
    strides: Strides,
    needed: Chosen,
    late: Columns,
    spans: Spans,
    layout: Layout,
) -> Outline:
    """Return the outline of the strides and of late readings. `needed`: the strides of which all readings are read."""
    whole, read = strides.taken(np.flatnonzero(~needed)), strides.taken(np.flatnonzero(needed))
    extremes = await _extremes(connection, device_id, strides, ~needed)
    data = await read_columns(connection, read.parts_of_readings(device_id, layout), layout)
    count = int(read.size.sum())
    return await computed(
        len(AXES) * (2 * len(extremes) + count + len(late)),
        lambda: outline_of(whole, extremes, _within(read, data.reshape(COLUMNS, count), spans), late),
    )


async def _extremes(connection: Connection, device_id: int, strides: Strides, chosen: Chosen) -> NDArray[np.void]:
    """Return the extremes of the chosen strides. Those of all strides are read, since those of a block are together."""
    if not chosen.any():
        return np.empty((0, len(AXES)), EXTREMES)
    return (await read_extremes(connection, strides.parts_of_extremes(device_id)))[chosen]


def _within(strides: Strides, data: NDArray[np.float64], spans: Spans) -> Readings:
    """Return the readings of the period."""
    times = data[TIMES].view(np.int64)
    begin, end = np.searchsorted(times, spans.first), np.searchsorted(times, spans.last, side="right")
    places = np.repeat(strides.place, strides.size) + spread(strides.size)
    return Readings(Columns(times, *data[TIMES + 1 :])[int(begin) : int(end)], places[begin:end])


def outline_of(whole: Strides, extremes: NDArray[np.void], read: Readings, late: Columns) -> Outline:
    readings = _with_late(read, late)
    count = len(readings.columns) + int(whole.size.sum())
    return Outline(count, [_axis(whole, extremes[:, axis], readings, axis) for axis in range(len(AXES))])


def _with_late(read: Readings, late: Columns) -> Readings:
    """Return the readings with late ones, whose place is that of the reading before."""
    if len(late) == 0:
        return read
    columns = [np.concatenate(pair) for pair in zip(_all(read.columns), _all(late), strict=True)]
    order = np.lexsort(columns[::-1])
    places = np.append(read.places, np.full(len(late), -1))[order]
    return Readings(Columns(*(column[order] for column in columns)), np.maximum.accumulate(places))


def _all(columns: Columns) -> Sequence[NDArray[Any]]:
    return columns.times, *columns.axes


def _axis(whole: Strides, extremes: NDArray[np.void], readings: Readings, axis: int) -> tuple[Times, Floats]:
    """Return times and values of one axis in order: of the readings, and of the extremes of whole strides."""
    least, greatest = extremes["least_place"].astype(np.int64), extremes["greatest_place"].astype(np.int64)
    differ = least != greatest
    places = np.concatenate((readings.places, whole.place + least, (whole.place + greatest)[differ]))
    times = np.concatenate((readings.columns.times, extremes["least_time"], extremes["greatest_time"][differ]))
    values = np.concatenate((readings.columns.axes[axis], extremes["least"], extremes["greatest"][differ]))
    order = np.lexsort((places, times))
    return times[order], values[order]
