"""The readings of a device from which the least and the greatest of each span of time follow, in order.

The extremes of a stride stand for its readings. These are read at the ends of the period and beside late readings, and
those of single axes where a span ends amid a stride and may have an extreme in it (`strides.py`).
"""

from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from contextlib import aclosing
from functools import partial
from typing import Any, LiteralString, Self

import msgspec
import numpy as np
from numpy.typing import NDArray

from query_api.statistics.blocks.building import EXTREMES, Columns
from query_api.statistics.blocks.computing import computed
from query_api.statistics.blocks.damage import DamagedBlocks, narrowed, require_times
from query_api.statistics.blocks.layout import AXES, STANDARD, Floats, Ints, Layout, Times
from query_api.statistics.blocks.packed import PACKED_WITH_TIMES, unpacked_with_times
from query_api.statistics.blocks.reading.curves.ahead import read_ahead
from query_api.statistics.blocks.reading.curves.strides import Chosen, Page, Spans, Strides
from query_api.statistics.blocks.reading.slices import TIMES, Parts, read_columns, read_extremes
from shared.postgres import arrays
from shared.postgres.arrays import EARLIEST, Moment
from shared.postgres.connections import Connection
from shared.postgres.distribution import is_distributed
from shared.readings.model import Microseconds


class Limits(msgspec.Struct, frozen=True):
    """Limits of one read, which tests lower. `blocks`: of one page. `readings`: that are read together."""

    blocks: int = 1024
    readings: int = 1 << 17


LIMITS = Limits()


class Outline(msgspec.Struct, frozen=True):
    """Some readings of a part of the period, which has `count`. `axes`: times and values of x, y and z, in order.

    `ends`: the times of the first and the last reading of strides that are not read, and of readings directly behind
    them. With the times of any axis they include both of each two neighbours that are farther apart than a span.
    """

    count: int
    axes: Sequence[tuple[Times, Floats]]
    ends: Times = np.empty(0, np.int64)  # never changed


async def read_sealed(connection: Connection, device_id: int) -> Microseconds:
    """Return the time before which `read_outline` has the readings of the device."""
    statement = _SEALED_ON_NODE if await is_distributed(connection) else _SEALED
    async with arrays.cursor(connection) as cursor:
        row = await (await cursor.execute(statement, (device_id,))).fetchone()
    return EARLIEST if row is None else row[0]


_SEALED = "SELECT sealed FROM sealed_devices WHERE device_id = %s"
_SEALED_ON_NODE = "SELECT sealed FROM sealed_until WHERE device_id = %s"


async def read_outline(
    connection: Connection,
    device_id: int,
    spans: Spans,
    most: int,
    *,
    layout: Layout = STANDARD,
    limits: Limits = LIMITS,
) -> AsyncGenerator[Outline, None]:
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
        extremes = await _extremes(connection, device_id, strides, needed)
        known = Known(strides, needed, strides.read(needed, extremes[~needed], spans), extremes)
        parts = _parts(known, of_late, page.until, limits.readings)
        reads = (partial(_read, connection, device_id, *part, layout) for part in parts)
        async with aclosing(read_ahead(reads)) as read:
            async for part in read:
                outline = await computed(part.size, partial(part.outline, spans))
                count += outline.count
                yield outline
        before = page.until
    rest = _between(late, before, spans.last)
    if len(rest):
        yield Outline(len(rest), [(rest.times, values) for values in rest.axes])


_LATE: LiteralString = f"""
    SELECT {PACKED_WITH_TIMES} FROM (
        SELECT recorded_at, x, y, z FROM late_readings
        WHERE device_id = %(device_id)s AND recorded_at >= %(first)s AND recorded_at <= %(last)s
          AND recorded_at < (SELECT sealed FROM sealed_devices WHERE device_id = %(device_id)s)
    ) AS late
"""  # noqa: S608  # constants
_LATE_ON_NODE = _LATE.replace("sealed_devices", "sealed_until")


async def _late(connection: Connection, device_id: int, spans: Spans) -> Columns:
    parameters = {"device_id": device_id, "first": Moment(spans.first), "last": Moment(spans.last)}
    statement = _LATE_ON_NODE if await is_distributed(connection) else _LATE
    async with arrays.cursor(connection) as cursor:
        row = await (await cursor.execute(statement, parameters)).fetchone()
    assert row is not None, "an aggregate has one row"
    return unpacked_with_times(row[0])


def _between(columns: Columns, after: Microseconds, last: Microseconds) -> Columns:
    """Return the readings after the one time, up to the other."""
    begin, end = np.searchsorted(columns.times, [after, last], side="right")
    return columns[int(begin) : int(end)]


# The newest block of each level that begins before the period may reach into it. Older ones do not.
_BLOCKS = """
    SELECT array_agg(level::integer), array_agg(first), array_agg(last), array_agg(count), string_agg(times, NULL)
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
    """Readings in order, with their places among those of all blocks. A late one has the place of the one before."""

    columns: Columns
    places: Ints
    has_late: bool = False


class Values(msgspec.Struct, frozen=True):
    """Values of one axis in order, with their times, and their places among the readings of all blocks."""

    times: Times
    values: Floats
    places: Ints


class Known(msgspec.Struct, frozen=True):
    """Strides, and which are read: all axes of those `needed`, and single axes, in the shape (axes, strides).

    `extremes`: shape (strides, axes). Those that are needed have none.
    """

    strides: Strides
    needed: Chosen
    read: Chosen
    extremes: NDArray[np.void]

    @property
    def columns(self) -> Sequence[Chosen]:
        """The strides of which times, x, y and z are read."""
        return [np.logical_or.reduce(self.read), *self.read]

    def taken(self, part: slice) -> Self:
        """Return those of a part of the strides."""
        return type(self)(self.strides.taken(part), self.needed[part], self.read[:, part], self.extremes[part])


async def _extremes(connection: Connection, device_id: int, strides: Strides, needed: Chosen) -> NDArray[np.void]:
    """Return the extremes of all strides, since those of a block are together; undefined ones if all are needed."""
    if needed.all():
        return np.empty((len(needed), len(AXES)), EXTREMES)
    return await read_extremes(connection, strides.parts_of_extremes(device_id))


def _parts(known: Known, late: Columns, until: Microseconds, readings: int) -> Iterator[tuple[Known, Columns]]:
    """Yield parts of the strides that are read together, each with the late readings up to its end."""
    strides, before = known.strides, EARLIEST
    for part in strides.parts(np.logical_or.reduce(known.read), readings):
        last = until if part.stop == len(strides.start) else int(strides.start[part.stop]) - 1
        yield known.taken(part), _between(late, before, last)
        before = last


class Part(msgspec.Struct, frozen=True):
    """Strides, their late readings, and the times, x, y and z that were read."""

    known: Known
    late: Columns
    data: Floats

    @property
    def size(self) -> int:
        """The number of values from which the outline is made."""
        return len(self.data) + 2 * self.known.extremes.size + len(AXES) * len(self.late)

    def outline(self, spans: Spans) -> Outline:
        return outline_of(self.known, self.data, spans, self.late)


async def _read(connection: Connection, device_id: int, known: Known, late: Columns, layout: Layout) -> Part:
    parts = [
        known.strides.taken(chosen).parts_of_column(device_id, TIMES + column, layout)
        for column, chosen in enumerate(known.columns)
    ]
    return Part(known, late, await read_columns(connection, Parts.joined(parts), layout))


def outline_of(known: Known, data: Floats, spans: Spans, late: Columns) -> Outline:
    """Return the outline. `data`: the times, x, y and z that were read."""
    strides, needed = known.strides, known.needed
    of_times, *of_axes = known.columns
    times, *axes = np.split(data, np.cumsum([strides.size[chosen].sum() for chosen in known.columns])[:-1])
    times = times.view(np.int64)

    def part(data: NDArray[Any], read: Chosen, chosen: Chosen) -> NDArray[Any]:
        """Return the readings of the chosen strides. `data`: those of the strides that were read."""
        own = chosen[read]
        if own.all() or not own.any():
            return data[: len(data) * int(own.any())]
        return data[np.repeat(own, strides.size[read])]

    def values(axis: int) -> Values:
        own = of_axes[axis] & ~needed
        return Values(part(times, of_times, own), part(axes[axis], of_axes[axis], own), strides.taken(own).places)

    columns = Columns(
        part(times, of_times, needed), *(part(one, read, needed) for one, read in zip(axes, of_axes, strict=True))
    )
    readings = _with_late(_within(columns, strides.taken(needed).places, spans), late)
    others = strides.taken(~needed)
    curves = [_axis(known, readings, values(axis), axis) for axis in range(len(AXES))]
    return Outline(len(readings.columns) + int(others.size.sum()), curves, np.concatenate((others.start, others.end)))


def _within(columns: Columns, places: Ints, spans: Spans) -> Readings:
    """Return the readings of the period."""
    begin, end = np.searchsorted(columns.times, spans.first), np.searchsorted(columns.times, spans.last, side="right")
    return Readings(columns[int(begin) : int(end)], places[begin:end])


def _with_late(read: Readings, late: Columns) -> Readings:
    """Return the readings with late ones."""
    if len(late) == 0:
        return read
    columns = [np.concatenate(pair) for pair in zip(_all(read.columns), _all(late), strict=True)]
    order = np.lexsort(columns[::-1])
    places = np.append(read.places, np.full(len(late), -1))[order]
    return Readings(Columns(*(column[order] for column in columns)), np.maximum.accumulate(places), has_late=True)


def _all(columns: Columns) -> Sequence[NDArray[Any]]:
    return columns.times, *columns.axes


def _axis(known: Known, readings: Readings, others: Values, axis: int) -> tuple[Times, Floats]:
    """Return times and values of one axis in order: of readings, of others, and of the extremes of other strides."""
    whole = ~known.read[axis]
    if not whole.any() and len(others.times) == 0:
        return readings.columns.times, readings.columns.axes[axis]
    extremes, place = known.extremes[whole, axis], known.strides.place[whole]
    least, greatest = extremes["least_place"].astype(np.int64), extremes["greatest_place"].astype(np.int64)
    differ = least != greatest
    places = np.concatenate((readings.places, others.places, place + least, (place + greatest)[differ]))
    times = np.concatenate(
        (readings.columns.times, others.times, extremes["least_time"], extremes["greatest_time"][differ])
    )
    values = np.concatenate(
        (readings.columns.axes[axis], others.values, extremes["least"], extremes["greatest"][differ])
    )
    order = np.lexsort((places, times)) if readings.has_late else np.argsort(places, kind="stable")
    return times[order], values[order]
