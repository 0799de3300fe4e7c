"""Order statistics by marks, guides and slices, against a sort of all values, over hostile data (Hypothesis)."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from query_api.statistics.blocks.building import Axis
from query_api.statistics.blocks.layout import Floats, Ints, Layout
from query_api.statistics.blocks.selection.narrowing import Narrowed, Samples, narrow_all
from query_api.statistics.blocks.selection.runs import Runs, brackets, narrow
from tests import hostile

kinds = st.sampled_from(hostile.KINDS)
layouts = st.builds(
    Layout,
    marks=st.sampled_from([1, 2, 4, 16]),
    least_stride=st.sampled_from([1, 2, 7]),
    guide=st.sampled_from([2, 3, 8]),
)
List = list[Floats]


@st.composite
def lists_of_runs(draw: st.DrawFn) -> list[List]:
    """Some lists, each of some runs; a list may have none, and runs of one list may be of different kinds."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    one = st.tuples(kinds, st.sampled_from([1, 2, 3, 17, 200]))
    made = draw(st.lists(st.lists(one, max_size=6), min_size=1, max_size=draw(st.sampled_from([2, 70]))))
    return [[Axis.of(hostile.values(kind, count, rng)).values for kind, count in one] for one in made]


def runs_of(lists: Sequence[List], layout: Layout, order: Sequence[int]) -> tuple[Runs, list[Floats]]:
    """The runs with their marks, given in any order of lists; and the values of each by its id."""
    flat = [(number, values) for number, one in enumerate(lists) for values in one]
    flat = [flat[place] for place in order]
    counts = np.array([len(values) for _, values in flat], np.int64)
    samples, position = layout.mark_counts(counts), layout.mark_positions(counts)
    own = np.repeat(np.arange(len(flat)), samples)
    value = np.array([flat[run][1][place] for run, place in zip(own, position, strict=True)])
    of = np.array([number for number, _ in flat], np.int64)
    return Runs.grouped(of, np.arange(len(flat)), counts, samples, value, position), [values for _, values in flat]


def values_of(runs: Runs, stored: Sequence[Floats]) -> Floats:
    parts = [stored[id_][start:end] for id_, start, end in zip(runs.id, runs.start, runs.end, strict=True)]
    return np.concatenate([np.empty(0), *parts])


def guides_of(runs: Runs, stored: Sequence[Floats], guide: int, only: Ints) -> Samples:
    """The guides in each slice; in those that `only` leaves out, none."""
    positions = [
        np.arange(-(-start // guide) * guide, end if chosen else start, guide)
        for start, end, chosen in zip(runs.start, runs.end, only, strict=True)
    ]
    values = [stored[id_][place] for id_, place in zip(runs.id, positions, strict=True)]
    return Samples(
        np.array([len(place) for place in positions], np.int64),
        np.concatenate([np.empty(0), *values]),
        np.concatenate([np.empty(0, np.int64), *positions]),
    )


def sorted_lists(lists: Sequence[List]) -> list[Floats]:
    return [np.sort(np.concatenate([np.empty(0), *one])) for one in lists]


def ranks_of(data: st.DataObject, lists: Sequence[Floats], figures: int) -> tuple[Ints, Ints]:
    """Two neighbouring ranks, or one twice, of each figure and list."""
    low = np.array([[data.draw(st.integers(0, max(len(one) - 1, 0))) for one in lists] for _ in range(figures)])
    step = data.draw(st.sampled_from([0, 1]))
    return low, np.minimum(low + step, np.maximum([len(one) - 1 for one in lists], 0))


def assert_found(found: Floats, lists: Sequence[Floats], low: Ints, high: Ints) -> None:
    for number, one in enumerate(lists):
        if len(one):
            assert found[0, :, number].tolist() == one[low[:, number]].tolist()
            assert found[1, :, number].tolist() == one[high[:, number]].tolist()


@given(lists_of_runs(), layouts, st.data())
@settings(max_examples=200)
def test_order_statistics_are_those_of_a_sort(lists: list[List], layout: Layout, data: st.DataObject) -> None:
    order = data.draw(st.permutations(range(sum(map(len, lists)))))
    runs, stored = runs_of(lists, layout, order)
    expected = sorted_lists(lists)
    low, high = ranks_of(data, expected, data.draw(st.sampled_from([1, 3])))

    narrowed = narrow_all(runs, len(lists), low, high)
    assert_found(narrowed.found(values_of(narrowed.runs, stored)), expected, low, high)
    refined = refine(narrowed, stored, layout, data)
    assert_found(refined.found(values_of(refined.runs, stored)), expected, low, high)
    assert refined.size <= narrowed.size <= low.shape[0] * sum(map(len, expected))


def refine(narrowed: Narrowed, stored: Sequence[Floats], layout: Layout, data: st.DataObject) -> Narrowed:
    rng = np.random.default_rng(data.draw(st.integers(0, 100)))
    only = rng.random(len(narrowed.runs)) < data.draw(st.sampled_from([0.0, 0.5, 1.0]))
    return narrowed.refined(guides_of(narrowed.runs, stored, layout.guide, only))


@given(lists_of_runs(), layouts, st.data())
def test_brackets_enclose_the_ranks_and_slices_what_is_between(
    lists: list[List], layout: Layout, data: st.DataObject
) -> None:
    runs, stored = runs_of(lists, layout, range(sum(map(len, lists))))
    expected = sorted_lists(lists)
    low_rank, high_rank = ranks_of(data, expected, 1)

    low, high = brackets(runs, len(lists), low_rank, high_rank)
    slices, before = narrow(runs, low[0], high[0])

    read = {int(run): (start, end) for run, start, end in zip(slices.run, slices.start, slices.end, strict=True)}
    for number, one in enumerate(expected):
        if len(one):
            assert low[0, number] <= one[low_rank[0, number]] <= one[high_rank[0, number]] <= high[0, number]
            assert np.count_nonzero(one <= low[0, number]) >= before[number]
    for run, (number, id_) in enumerate(zip(runs.of, runs.id, strict=True)):
        values, (start, end) = stored[id_], read.get(run, (0, 0))
        between = np.flatnonzero((low[0, number] < values) & (values < high[0, number]))
        assert np.all((start <= between) & (between < end)), "no value between the bounds is left out"


@given(lists_of_runs(), st.data())
def test_no_value_is_read_twice(lists: list[List], data: st.DataObject) -> None:
    """Where each value is a mark, none is read."""
    runs, _ = runs_of(lists, Layout(least_stride=1), range(sum(map(len, lists))))
    assert narrow_all(runs, len(lists), *ranks_of(data, sorted_lists(lists), 1)).size == 0


def test_values_equal_to_a_mark_are_not_read() -> None:
    """Of a million values of which most are equal, the median needs none."""
    values = np.sort(np.where(np.random.default_rng(1).random(10**6) < 0.9, 7.0, 3.0))
    runs, _ = runs_of([[values]], Layout(), [0])
    rank = np.array([[500_000]])
    assert narrow_all(runs, 1, rank, rank).size == 0


@pytest.mark.parametrize("blocks", [1, 10])
def test_few_values_are_read(blocks: int) -> None:
    """Marks leave about two of 256 intervals of each run, and guides a few hundred values of each."""
    rng = np.random.default_rng(2)
    lists = [[np.sort(rng.uniform(-1000, 1000, 1 << 18)) for _ in range(blocks)]]
    runs, stored = runs_of(lists, Layout(), range(blocks))
    rank = np.array([[blocks * (1 << 17) + 333]])

    narrowed = narrow_all(runs, 1, rank, rank)
    refined = narrowed.refined(guides_of(narrowed.runs, stored, 128, np.ones(len(narrowed.runs))))

    assert narrowed.size <= blocks * 3 * 1024
    assert refined.size <= blocks * 4 * 128
    assert refined.found(values_of(refined.runs, stored))[0, 0, 0] == np.sort(np.concatenate(lists[0]))[rank[0, 0]]
