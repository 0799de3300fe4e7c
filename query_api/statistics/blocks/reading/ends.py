"""The readings of blocks at the ends of a period, of which only a part lies in it."""

from collections.abc import Sequence

import numpy as np

from query_api.statistics.blocks.computing import OF_AN_ITEM, computed
from query_api.statistics.blocks.layout import AXES, Ints, Layout
from query_api.statistics.blocks.reading.cover import AtEnds
from query_api.statistics.blocks.reading.gathered import Gathered
from query_api.statistics.blocks.reading.items import Items
from query_api.statistics.blocks.reading.slices import Parts, read_columns
from shared.postgres.connections import Connection

_COLUMNS = 1 + len(AXES)
"""Times, x, y and z."""


async def read_ends(
    connection: Connection, items: Items, at_ends: Sequence[AtEnds], gathered: Gathered, layout: Layout
) -> None:
    """Add the readings of the blocks that lie in the period of their item."""
    if not at_ends:
        return
    work = OF_AN_ITEM * len(at_ends)
    spans, parts = await computed(work, lambda: _planned(items, at_ends, layout))
    data = await read_columns(connection, parts)
    await computed(work, lambda: _add(items, spans, data, gathered))


_Span = tuple[AtEnds, int, int, int]
"""Some readings of a block: its place in the blocks at the ends, and their positions, the end excluded."""


def _planned(items: Items, at_ends: Sequence[AtEnds], layout: Layout) -> tuple[Sequence[_Span], Parts]:
    """Return what must be read, and the parts of the columns that hold it."""
    spans = [(one, place, *span) for one in at_ends for place, span in enumerate(_spans(items, one, layout))]
    spans = [span for span in spans if span[2] < span[3]]
    return spans, _parts(items, spans)


def _add(items: Items, spans: Sequence[_Span], data: bytes, gathered: Gathered) -> None:
    """Add the readings of the spans that lie in the period of their item. `data`: the columns of all spans."""
    at = 0
    for one, _, begin, end in spans:
        size = end - begin
        times = np.frombuffer(data, "<i8", size, at)
        axes = np.frombuffer(data, "<f8", len(AXES) * size, at + 8 * size).reshape(len(AXES), size)
        at += 8 * _COLUMNS * size
        within = slice(
            int(np.searchsorted(times, items.starts[one.item])),
            int(np.searchsorted(times, items.ends[one.item], side="right")),
        )
        group = int(items.groups[one.item])
        gathered.add_readings(group, [values[within] for values in axes], from_blocks=True)


def _spans(items: Items, one: AtEnds, layout: Layout) -> list[tuple[int, int]]:
    """Return the positions of each block between which its readings of the period lie, by the kept times."""
    numbers = -(-one.count // layout.time_stride)
    spans = []
    for times, count in zip(np.split(one.times, np.cumsum(numbers)[:-1]), one.count.tolist(), strict=True):
        before = int(np.searchsorted(times, items.starts[one.item]))
        behind = int(np.searchsorted(times, items.ends[one.item], side="right"))
        spans.append((max(0, before - 1) * layout.time_stride, min(count, behind * layout.time_stride)))
    return spans


def _parts(items: Items, spans: Sequence[_Span]) -> Parts:
    """Return the parts of all columns: of each block those of times, x, y and z."""
    rows = [
        (items.devices[one.item], one.level[place], one.first[place], one.count[place], begin, end)
        for one, place, begin, end in spans
    ]
    device, level, first, count, begin, end = np.array(rows, np.int64).reshape(-1, 6).T
    column = np.tile(np.arange(_COLUMNS), len(rows))

    def each(values: Ints) -> Ints:
        return np.repeat(values, _COLUMNS)

    offset = column * each(count)
    return Parts(each(device), each(level), each(first), column, offset + each(begin), offset + each(end))
