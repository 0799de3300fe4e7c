"""The readings of blocks at the ends of a period, of which only a part lies in it.

They are read in chunks. Many periods have more of them than memory should hold: of the last chunks only the marks are
kept, and a chunk is read again if some of its values are needed.
"""

from collections.abc import Iterator, Sequence
from functools import partial

import msgspec
import numpy as np

from query_api.statistics.blocks.computing import OF_AN_ITEM, computed
from query_api.statistics.blocks.layout import AXES, Floats, Layout, Times
from query_api.statistics.blocks.reading.cover import AtEnds
from query_api.statistics.blocks.reading.gathered import Gathered
from query_api.statistics.blocks.reading.items import Items
from query_api.statistics.blocks.reading.pieces import KEPT
from query_api.statistics.blocks.reading.slices import TIMES, Parts, read_columns
from shared.postgres.connections import Connection
from shared.readings.model import Microseconds

CHUNK_BYTES = 4 << 20
"""Bytes of one statement, which take some milliseconds to receive."""
_VALUE_BYTES = 8


class _Span(msgspec.Struct, frozen=True):
    """Some readings of a block at the ends: its item and place there, and positions, the ends of which are excluded.

    The period begins between `begin` and `head`, and ends between `foot` and `end`. Only these times are read.
    """

    one: AtEnds
    place: int
    begin: int
    head: int
    foot: int
    end: int

    @property
    def columns(self) -> list[tuple[int, int, int]]:
        """The columns that are read, and their positions."""
        axes = [(TIMES + 1 + axis, self.begin, self.end) for axis in range(len(AXES))]
        return [(TIMES, self.begin, self.head), (TIMES, self.foot, self.end), *axes]

    @property
    def bytes(self) -> int:
        values = self.head - self.begin + self.end - self.foot + len(AXES) * (self.end - self.begin)
        return _VALUE_BYTES * values

    def within(self, head: Times, foot: Times, start: Microseconds, end: Microseconds) -> slice:
        """Return which readings of the span lie in the period. `head`, `foot`: the times that were read."""
        before = int(np.searchsorted(head, start))
        if self.foot == self.end:  # the period ends among the times of the head
            return slice(before, int(np.searchsorted(head, end, side="right")))
        return slice(before, self.foot - self.begin + int(np.searchsorted(foot, end, side="right")))


async def read_ends(
    connection: Connection,
    items: Items,
    at_ends: Sequence[AtEnds],
    gathered: Gathered,
    layout: Layout,
    chunk_bytes: int = CHUNK_BYTES,
    kept: int = KEPT,
) -> None:
    """Add the readings of the blocks that lie in the period of their item.

    `chunk_bytes`: of one statement. `kept`: readings whose values are kept.
    """
    if not at_ends:
        return
    spans = await computed(
        OF_AN_ITEM * len(at_ends), lambda: [span for one in at_ends for span in _spans(items, one, layout)]
    )
    for chunk in _chunks(spans, chunk_bytes):
        parts = await _read(connection, items, chunk, layout)
        is_kept = gathered.kept < kept
        add = partial(_keep if is_kept else _mark, items, chunk, parts, gathered, layout)
        await computed(0 if is_kept else sum(axes.size for axes in parts), add)


def _chunks(spans: Sequence[_Span], chunk_bytes: int) -> Iterator[Sequence[_Span]]:
    """Yield the spans in parts of about `chunk_bytes`."""
    chunk: list[_Span] = []
    size = 0
    for span in spans:
        chunk.append(span)
        size += span.bytes
        if size >= chunk_bytes:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def _spans(items: Items, one: AtEnds, layout: Layout) -> Iterator[_Span]:
    """Yield the span of each block between whose kept times the readings of the period lie."""
    stride = layout.time_stride
    numbers = -(-one.count // stride)
    edges = [0, *np.cumsum(numbers).tolist()]
    for place, (count, first, last) in enumerate(zip(one.count.tolist(), edges[:-1], edges[1:], strict=True)):
        times = one.times[first:last]
        before = int(np.searchsorted(times, items.starts[one.item]))
        behind = int(np.searchsorted(times, items.ends[one.item], side="right"))
        begin, end = max(0, before - 1) * stride, min(count, behind * stride)
        if begin < end:
            head = min(end, begin + stride) if before else begin
            yield _Span(one, place, begin, head, max(head, (behind - 1) * stride), end)


async def _read(connection: Connection, items: Items, spans: Sequence[_Span], layout: Layout) -> list[Floats]:
    """Return the readings of each span that lie in the period of its item: shape (axes, readings)."""
    data = await read_columns(connection, _parts(items, spans), layout)
    found = []
    at = 0
    for span in spans:
        heads, foots, size = span.head - span.begin, span.end - span.foot, span.end - span.begin
        times = data[at : at + heads + foots].view(np.int64)
        at += heads + foots
        axes = data[at : at + len(AXES) * size].reshape(len(AXES), size)
        at += len(AXES) * size
        item = span.one.item
        within = span.within(times[:heads], times[heads:], int(items.starts[item]), int(items.ends[item]))
        found.append(axes[:, within])
    return found


class _Unkept(msgspec.Struct, frozen=True):
    """Readings of some spans, which can be read again."""

    items: Items
    spans: Sequence[_Span]
    layout: Layout

    async def read(self, connection: Connection) -> Sequence[Floats]:
        return _joined(await _read(connection, self.items, self.spans, self.layout))


def _joined(parts: Sequence[Floats]) -> Sequence[Floats]:
    return list(np.concatenate(parts, axis=1))


def _keep(items: Items, spans: Sequence[_Span], parts: Sequence[Floats], gathered: Gathered, layout: Layout) -> None:
    """Add the readings of the spans with their values. `parts`: those of each span."""
    for span, axes in zip(spans, parts, strict=True):
        gathered.add_readings(int(items.groups[span.one.item]), list(axes), from_blocks=True)


def _mark(items: Items, spans: Sequence[_Span], parts: Sequence[Floats], gathered: Gathered, layout: Layout) -> None:
    """Add the readings of the spans, of which only the marks are kept. `parts`: those of each span."""
    groups = items.groups[[span.one.item for span in spans]]
    for group in np.unique(groups).tolist():
        own = np.flatnonzero(groups == group).tolist()
        unkept = _Unkept(items, [spans[place] for place in own], layout)
        gathered.add_piece(group, unkept, _joined([parts[place] for place in own]), layout, from_blocks=True)


def _parts(items: Items, spans: Sequence[_Span]) -> Parts:
    """Return the parts of all columns of the spans."""
    rows = [
        (items.devices[span.one.item], span.one.level[span.place], span.one.first[span.place], column, begin, end)
        for span in spans
        for column, begin, end in span.columns
    ]
    return Parts(*np.array(rows, np.int64).T)
