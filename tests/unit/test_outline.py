"""Outlines of readings: their downsampling is that of all readings, for any blocks, spans and late readings."""

import itertools
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from query_api.readings.plots.downsampling import MIN_POINTS, Downsampler, span_of
from query_api.statistics.blocks.building import Columns, extremes_of
from query_api.statistics.blocks.cutting import cuts
from query_api.statistics.blocks.layout import BASE, Floats, Layout, Times
from query_api.statistics.blocks.reading.curves.outline import Known, Outline, outline_of
from query_api.statistics.blocks.reading.curves.strides import Page, Spans, Strides


def outlined(columns: Columns, late: Columns, spans: Spans, layout: Layout) -> Outline:
    """Do what `read_outline` does for blocks of one page, without a database."""
    ends = cuts(columns.times, layout.targets[BASE], is_open=False)
    blocks = [columns[begin:end] for begin, end in zip([0, *ends], ends, strict=False)]
    page = Page(
        np.full(len(blocks), BASE), np.array([block.first for block in blocks]),
        np.array([block.last for block in blocks]), np.array([len(block) for block in blocks]),
        np.concatenate([block.times[:: layout.time_stride] for block in blocks]),
    )  # fmt: skip
    strides = Strides.of(page, spans, layout)
    needed = strides.needed(spans, late.times)
    extremes = np.concatenate([extremes_of(block, layout.time_stride) for block in blocks])
    starts = np.cumsum([0, *(-(-len(block) // layout.time_stride) for block in blocks)])
    own = extremes[starts[np.searchsorted(page.first, strides.first)] + strides.number]
    known = Known(strides, needed, strides.read(needed, own[~needed], spans), own)
    places = [strides.taken(chosen).places for chosen in known.columns]
    axes = (values[own] for values, own in zip(columns.axes, places[1:], strict=True))
    return outline_of(known, np.concatenate([columns.times[places[0]].view(np.float64), *axes]), spans, late)


def drawn(columns: Columns, points: int, outline: Outline | None = None) -> list[tuple[list[int], bytes]]:
    lines = []
    for axis, values in enumerate(columns.axes):
        line = Downsampler(columns.first, columns.last, points)
        times, given = (columns.times, values) if outline is None else outline.axes[axis]
        line.add(times, given, None if outline is None else outline.count)
        chosen_times, chosen = line.result()
        lines.append((chosen_times.tolist(), chosen.tobytes()))
    return lines


def readings_of(rng: np.random.Generator) -> Columns:
    """Readings of few values, some at equal times, some after a gap."""
    count = int(rng.integers(1, 500))
    times = rng.integers(0, count * int(rng.choice([1, 3, 50])) // int(rng.choice([1, 4])) + 1, count)
    times = np.sort(times)
    for place in rng.integers(0, count, int(rng.integers(0, 4))):
        times[place:] += int(rng.integers(1, count + 1))
    axes = [kind(count, rng) for kind in rng.choice(KINDS, 3)]
    rows = np.unique(np.stack((times.astype(float), *axes)), axis=1)
    return Columns.ordered(rows[0].astype(np.int64), *rows[1:])


KINDS: list[Callable[[int, np.random.Generator], Floats]] = [
    lambda count, rng: rng.normal(size=count),
    lambda count, rng: np.cumsum(rng.normal(size=count)),
    lambda count, rng: rng.choice([0.0, -0.0, 1.0, -1.0, 5e-324], count),
    lambda count, rng: np.zeros(count),
]


@pytest.mark.parametrize("seed", range(10))
def test_the_line_of_an_outline_is_that_of_all_readings(seed: int) -> None:
    rng = np.random.default_rng(seed)
    for _ in range(100):
        every = readings_of(rng)
        is_late = rng.random(len(every)) < rng.choice([0, 0.01, 0.1])
        is_late[int(rng.integers(len(every)))] = False  # a block has readings
        first, last = np.sort(rng.choice(every.times, 2)) if rng.random() < 0.5 else (every.first, every.last)
        points = int(rng.choice([MIN_POINTS, 5, 8, 12]))
        within = _chosen(every, (every.times >= first) & (every.times <= last))
        late = _chosen(every, is_late & (every.times >= first) & (every.times <= last))
        base = int(rng.choice([16, 64, 400]))
        layout = Layout(targets=(4, base, 8 * base, 64 * base), time_stride=int(rng.choice([1, 2, 5, 8])))
        spans = Spans(int(first), int(last), span_of(int(first), int(last), points))
        found = outlined(_chosen(every, ~is_late), late, spans, layout)
        assert found.count == len(within)
        if len(within) > points:
            assert drawn(within, points, found) == drawn(within, points)
        assert far(np.concatenate((found.axes[0][0], found.ends)), spans) == far(within.times, spans)


def far(times: Times, spans: Spans) -> list[tuple[int, int]]:
    """The neighbours that are farther apart than a span."""
    times = np.sort(times)
    return [(int(a), int(b)) for a, b in itertools.pairwise(times) if b - a > spans.length]


def _chosen(columns: Columns, chosen: NDArray[np.bool_]) -> Columns:
    return Columns(columns.times[chosen], *(values[chosen] for values in columns.axes))
