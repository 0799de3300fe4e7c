"""Slices of the stored arrays of blocks: many of them in one statement."""

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, Self

import msgspec
import numpy as np
from numpy.typing import NDArray

from query_api.statistics.blocks.building import EXTREMES, VALUES, Key
from query_api.statistics.blocks.coding import Coding, decode_column, decode_sorted, decode_times
from query_api.statistics.blocks.computing import computed
from query_api.statistics.blocks.damage import MOST, DamagedBlocks
from query_api.statistics.blocks.layout import AXES, Floats, Ints, Layout, Times, spread
from query_api.statistics.blocks.reading import shards
from query_api.statistics.blocks.reading.gathered import Blocks, Gathered, SortedLists
from query_api.statistics.blocks.reading.pieces import Unkept
from query_api.statistics.blocks.selection.narrowing import Samples
from query_api.statistics.blocks.selection.runs import Runs
from shared.postgres import arrays
from shared.postgres.arrays import Bigints, Moments
from shared.postgres.connections import Connection
from shared.postgres.distribution import is_distributed

_AXES = len(AXES)
Flags = NDArray[np.bool_]
_VALUE_BYTES = 8
TIMES = 0
"""The axis of times in the columns of readings. x, y and z follow."""
GUIDED_LEVEL = 2
"""The first level with guides."""

# Whole frames: `start` is the first one. Arrays of one coding are decoded together.
_SLICES = """
    SELECT {coding}, {is_time}, array_agg(part.number ORDER BY part.number), string_agg(
        substr(stored.{column}, (part.start * {bytes} + 1)::integer, (part.frames * {bytes})::integer), NULL
        ORDER BY part.number)
    FROM unnest(%(devices)s::bigint[], %(levels)s::bigint[], %(firsts)s::timestamptz[], %(axes)s::bigint[],
                %(starts)s::bigint[], %(frames)s::bigint[]) WITH ORDINALITY
         AS part (device_id, level, first, axis, start, frames, number)
    JOIN {table} AS stored ON stored.device_id = part.device_id AND stored.level = part.level::smallint
     AND stored.first = part.first AND stored.axis = part.axis::smallint {of_devices}
    GROUP BY 1, 2
"""
_FRAMED = {"coding": "stored.coding", "bytes": "stored.frame_bytes"}


class _Slices(msgspec.Struct, frozen=True):
    """A statement that reads slices, and the one for a Citus cluster: it asks the shards of the devices alone."""

    plain: bytes
    distributed: bytes

    @classmethod
    def of(cls, **parts: object) -> Self:
        plain, distributed = (
            _SLICES.format(of_devices=condition, **parts) for condition in ("", shards.of_devices("stored"))
        )
        return cls(plain.encode(), distributed.encode())


_VALUES = _Slices.of(column="sorted", table="block_values", is_time=False, **_FRAMED)
_COLUMNS = _Slices.of(column="columns", table="block_columns", is_time=f"stored.axis = {TIMES}", **_FRAMED)
_GUIDES = _Slices.of(column="guides", table="block_values", is_time=False, coding=0, bytes=_VALUE_BYTES)


class Parts(msgspec.Struct, frozen=True):
    """Parts of stored arrays in columns: the block, the axis, and positions of values, `end` excluded."""

    device: Ints
    level: Ints
    first: Times
    axis: Ints
    start: Ints
    end: Ints

    @classmethod
    def joined(cls, some: Sequence[Self]) -> Self:
        """Return all parts, one after the other."""
        return cls(*(np.concatenate([getattr(one, name) for one in some]) for name in cls.__struct_fields__))

    def __len__(self) -> int:
        return len(self.device)

    def __getitem__(self, chosen: slice | Ints | Flags) -> Self:
        return type(self)(*(getattr(self, name)[chosen] for name in self.__struct_fields__))

    @property
    def keys(self) -> list[Key]:
        """The block of each part."""
        columns = self.device.tolist(), self.level.tolist(), self.first.tolist()
        return [Key(*key) for key in zip(*columns, strict=True)]


async def read_values(connection: Connection, blocks: Blocks, gathered: Gathered, runs: Runs, layout: Layout) -> Floats:
    """Return the values of the runs, one after the other: those of blocks, of readings, and of pieces."""
    local = len(blocks) * _AXES
    is_stored = runs.id < local
    stored = await _read(connection, _VALUES, _parts(blocks, runs, is_stored), layout.guide, decode_sorted)
    if is_stored.all():
        return stored
    pieces = local + len(gathered.local)
    values = await computed(
        int(runs.size.sum()), lambda: _placed(stored, is_stored, gathered.local, runs, local, pieces)
    )
    starts = np.cumsum(runs.size) - runs.size
    await _fill_from_pieces(connection, values, starts, gathered.pieces, runs, pieces)
    return values


def _placed(stored: Floats, is_stored: Flags, lists: SortedLists, runs: Runs, local: int, pieces: int) -> Floats:
    """Return the values of all runs, with those of pieces undefined. `local`, `pieces`: the first ids of these runs."""
    values = np.empty(int(runs.size.sum()))
    values[np.repeat(is_stored, runs.size)] = stored
    is_local = ~is_stored & (runs.id < pieces)
    own, size = runs.id[is_local] - local, runs.size[is_local]
    places = np.repeat(lists.start[own] + runs.start[is_local], size) + spread(size)
    values[np.repeat(is_local, runs.size)] = lists.values[places]
    return values


async def _fill_from_pieces(
    connection: Connection, values: Floats, starts: Ints, pieces: Sequence[Unkept], runs: Runs, first_id: int
) -> None:
    """Read each piece again of which values are needed."""
    chosen = np.flatnonzero(runs.id >= first_id)
    piece, axis = np.divmod(runs.id[chosen] - first_id, _AXES)
    for number in sorted(set(piece.tolist())):
        axes = await pieces[number].read(connection)
        in_order = await computed(_AXES * len(axes[0]), partial(_in_order, axes))
        for run, own in zip(chosen[piece == number].tolist(), axis[piece == number].tolist(), strict=True):
            _fill(values, starts, runs, run, in_order[own])


def _in_order(axes: Sequence[Floats]) -> Sequence[Floats]:
    return [np.sort(values + 0.0) for values in axes]


def _fill(values: Floats, starts: Ints, runs: Runs, run: int, source: Floats) -> None:
    """Set the values of one run. `starts`: where those of each run begin."""
    own = source[runs.start[run] : runs.end[run]]
    values[starts[run] : starts[run] + len(own)] = own


async def read_guides(connection: Connection, blocks: Blocks, runs: Runs, layout: Layout) -> Samples:
    """Return the guides in the runs of blocks that have some; other runs have no samples."""
    block = np.minimum(runs.id // _AXES, max(len(blocks) - 1, 0))
    is_guided = (runs.id < len(blocks) * _AXES) & (runs.size > 2 * layout.guide)
    if len(blocks):
        is_guided &= blocks.level[block] >= GUIDED_LEVEL
    start, end = -(-runs.start // layout.guide), -(-runs.end // layout.guide)
    samples = np.where(is_guided, end - start, 0)
    guides = Runs(runs.of, runs.id, start, end, samples, runs.value, runs.position)
    value = await _read(connection, _GUIDES, _parts(blocks, guides, is_guided), 1, decode_sorted)
    return Samples(samples, value, (np.repeat(start, samples) + spread(samples)) * layout.guide)


def _parts(blocks: Blocks, runs: Runs, chosen: Flags) -> Parts:
    block, axis = np.divmod(runs.id[chosen], _AXES)
    return Parts(
        blocks.device[block], blocks.level[block], blocks.first[block], axis, runs.start[chosen], runs.end[chosen]
    )


async def read_columns(connection: Connection, parts: Parts, layout: Layout) -> Floats:
    """Return parts of the columns of blocks, one after the other. Those of TIMES are int64, viewed as float64."""
    return await _read(connection, _COLUMNS, parts, layout.time_stride, decode_column)


async def read_extremes(connection: Connection, parts: Parts) -> NDArray[np.void]:
    """Return the extremes of strides: shape (strides, axes). The positions of the parts are numbers of strides."""
    own = msgspec.structs.replace(parts, start=parts.start * VALUES, end=parts.end * VALUES)
    values = await _read(connection, _COLUMNS, own, VALUES, decode_column)
    return values.view(EXTREMES).reshape(-1, _AXES)


_Decode = Callable[[Coding, bytes, int], Floats]
_Coded = tuple[int, bool, Ints, bytes | None]
"""Parts of one coding: its number, whether they are times, the numbers of the parts from 1 on, and their frames."""


async def _read(connection: Connection, statement: _Slices, parts: Parts, size: int, decode: _Decode) -> Floats:
    """Return parts of arrays that are in frames of `size` entries. Raises DamagedBlocks."""

    async def read(some: Parts) -> Floats:
        return await _read_once(connection, statement, some, size, decode)

    try:
        return await read(parts)
    except DamagedBlocks:
        raise DamagedBlocks(await _damaged(read, parts)) from None


async def _damaged(read: Callable[[Parts], Awaitable[Floats]], parts: Parts) -> Sequence[Key]:
    """Return the blocks of parts that cannot be read, MOST or few more, by halving the parts."""
    try:
        await read(parts)
    except DamagedBlocks:
        if len(parts) == 1:
            return parts.keys
        middle = len(parts) // 2
        found = await _damaged(read, parts[:middle])
        return found if len(found) >= MOST else [*found, *await _damaged(read, parts[middle:])]
    return []


async def _read_once(connection: Connection, statement: _Slices, parts: Parts, size: int, decode: _Decode) -> Floats:
    if len(parts) == 0:
        return np.empty(0)
    first = parts.start // size
    parameters = {
        "devices": Bigints(parts.device), "levels": Bigints(parts.level), "firsts": Moments(parts.first),
        "axes": Bigints(parts.axis), "starts": Bigints(first), "frames": Bigints(-(-parts.end // size) - first),
    }  # fmt: skip
    async with arrays.cursor(connection) as cursor:
        if await is_distributed(connection):
            rows = await (await cursor.execute(statement.distributed, parameters, prepare=False)).fetchall()
        else:
            rows = await (await cursor.execute(statement.plain, parameters, prepare=True)).fetchall()
    return await computed(int((parts.end - parts.start).sum()), lambda: _decoded(parts, size, rows, decode))


def _decoded(parts: Parts, size: int, rows: Sequence[_Coded], decode: _Decode) -> Floats:
    """Raises DamagedBlocks."""
    frames = -(-parts.end // size) - parts.start // size
    at = np.cumsum(frames) - frames
    found = np.empty((int(frames.sum()), size))
    is_missing = np.ones(len(parts), bool)
    for number, is_time, numbers, data in rows:
        own = np.asarray(numbers) - 1
        entries = _entries(number, data, size, decode_times if is_time else decode)
        if len(entries) != frames[own].sum() * size:
            raise DamagedBlocks(parts[own].keys)
        is_missing[own] = False
        if len(own) == len(parts):  # all of one coding
            found = entries.reshape(-1, size)
        else:
            found[np.repeat(at[own], frames[own]) + spread(frames[own])] = entries.reshape(-1, size)
    if is_missing.any():
        raise DamagedBlocks(parts[is_missing].keys)
    return _cut(found.ravel(), at * size + parts.start % size, parts.end - parts.start)


def _cut(entries: Floats, starts: Ints, sizes: Ints) -> Floats:
    """Return parts of entries, which are in order and do not overlap."""
    ends = starts + sizes
    edges = np.flatnonzero(starts[1:] != ends[:-1])
    begins, ends = starts[np.append(0, edges + 1)], ends[np.append(edges, len(ends) - 1)]
    return np.concatenate([entries[begin:end] for begin, end in zip(begins.tolist(), ends.tolist(), strict=True)])


def _entries(
    number: int, data: bytes | None, size: int, decode: Callable[[Coding, bytes, int], NDArray[Any]]
) -> Floats:
    """Return the entries of whole frames; none if these are no frames of a coding."""
    try:
        return decode(Coding.of(number), data or b"", size).view(np.float64)
    except ValueError:
        return np.empty(0)
