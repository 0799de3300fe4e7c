"""Comparison of readings, and of stored blocks with those that are built anew of their readings."""

from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np

from query_api.statistics.blocks.building import Axis, AxisSummary, Columns
from query_api.statistics.blocks.checking.stored import StoredBlock, StoredRow
from query_api.statistics.blocks.coding import code_sorted
from query_api.statistics.blocks.layout import AXES, Layout
from query_api.statistics.blocks.tables import coded_columns
from shared.readings.model import Microseconds

_Counted = Counter[tuple[Microseconds, float, float, float]]


def same(one: Columns, other: Columns) -> bool:
    """Return whether the readings are equal in each bit. Both are in order."""
    if len(one) != len(other):
        return False
    axes = zip(one.axes, other.axes, strict=True)
    return np.array_equal(one.times, other.times) and all(a.tobytes() == b.tobytes() for a, b in axes)


def unequal(rows: Columns, held: Columns) -> list[tuple[Microseconds, str]]:
    """Return how the readings in blocks or late_readings differ from the rows, and the first time of each difference.

    It is for readings that are not the same.
    """
    stored, counted = _counted(rows), _counted(held)
    missing, surplus = stored - counted, counted - stored
    twice = Counter({reading: number for reading, number in surplus.items() if reading in stored})
    kinds = (
        (missing, "older than sealed, and in no block and not in late_readings"),
        (twice, "in more than one block, or in a block and in late_readings"),
        (surplus - twice, "in a block or in late_readings, and not in readings"),
    )
    found = [(min(one)[0], f"{_readings(one.total())} {text}") for one, text in kinds if one]
    return found or [(rows.first, "the signs of zeros differ from those of the rows")]


def _counted(columns: Columns) -> _Counted:
    return Counter(zip(columns.times.tolist(), *(axis.tolist() for axis in columns.axes), strict=True))


def _readings(count: int) -> str:
    return f"{count:,} reading is" if count == 1 else f"{count:,} readings are"


def wrong_in_block(block: StoredBlock, readings: Columns, layout: Layout) -> list[str]:
    """Return the names of what differs from the block that is built of these readings, which are in order."""
    axes = [Axis.of(values) for values in readings.axes]
    summaries = [AxisSummary.of(axis, layout) for axis in axes]
    found = [*wrong_in_row(block.row, readings.first, readings.last, len(readings), summaries)]
    if block.row.times != np.ascontiguousarray(readings.times[:: layout.time_stride]).tobytes():
        found.append("times")
    if block.columns != {n: coded.fields for n, coded in enumerate(coded_columns(readings, layout))}:
        found.append("columns")
    expected = {number: code_sorted(axis.values, layout.guide).fields for number, axis in enumerate(axes)}
    found += [f"values of {name}" for number, name in enumerate(AXES) if block.values.get(number) != expected[number]]
    if block.values.keys() != expected.keys() or any(guides is not None for guides in block.guides.values()):
        found.append("axes")
    return found


def wrong_in_row(
    row: StoredRow, first: Microseconds, last: Microseconds, count: int, axes: Sequence[AxisSummary]
) -> Iterable[str]:
    """Yield the names of the columns of a block's row that differ, except times. `merged` must be true if covered."""
    fields = {
        "first": (row.first, first),
        "last": (row.last, last),
        "count": (row.count, count),
        "merged": (row.merged, row.covered),
        "ranges": (row.ranges.tolist(), [bound for axis in axes for bound in (axis.least, axis.greatest)]),
        "sums": (list(row.totals), [axis.total for axis in axes]),
        "sums of squares": (list(row.squares), [axis.squares for axis in axes]),
        "marks": (row.marks, b"".join(axis.marks for axis in axes)),
    }
    return (name for name, (stored, expected) in fields.items() if stored != expected)
