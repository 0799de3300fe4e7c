"""Counts of values below bounds, by samples, guides and slices, against a search in all values (Hypothesis)."""

from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from query_api.statistics.blocks.layout import Floats, Ints, Layout
from query_api.statistics.blocks.selection.runs import Runs
from query_api.statistics.counting import Places, first_not_below
from query_api.statistics.histogram import edges
from tests.unit.test_selection import List, guides_of, layouts, lists_of_runs, runs_of, sorted_lists, values_of

numbers = st.one_of(st.floats(-1000, 1000), st.sampled_from([0.0, -0.0, 5e-324, -1000.0, 1000.0, 0.5, 7.0, 0.1]))


@st.composite
def bounds_of(draw: st.DrawFn, lists: Sequence[Floats]) -> list[Floats]:
    """Bounds of each list in ascending order: its values, those next above, others; often none, or equal ones."""
    return [np.sort(np.array(draw(st.lists(_bound(one), max_size=8)), np.float64)) for one in lists]


def _bound(one: Floats) -> st.SearchStrategy[float]:
    if len(one) == 0:
        return numbers
    own = st.integers(0, len(one) - 1).map(lambda place: float(one[place]))
    return st.one_of(numbers, own, own.map(lambda value: float(np.nextafter(value, np.inf))))


def expected_counts(lists: Sequence[Floats], bounds: Sequence[Floats]) -> list[int]:
    return [int(np.count_nonzero(one < bound)) for one, own in zip(lists, bounds, strict=True) for bound in own]


def counted(runs: Runs, stored: list[Floats], bounds: Sequence[Floats], guide: int, only: float) -> Ints:
    """The counts with guides in some of the slices."""
    places = Places.of(runs, bounds)
    slices = places.slices()
    chosen = np.random.default_rng(1).random(len(slices)) < only
    places = places.narrowed(guides_of(slices, stored, guide, chosen))
    assert places.slices().size.sum() <= slices.size.sum()
    return places.found(values_of(places.slices(), stored))


@given(lists_of_runs(), layouts, st.data())
@settings(max_examples=200)
def test_counts_are_those_of_all_values(lists: list[List], layout: Layout, data: st.DataObject) -> None:
    runs, stored = runs_of(lists, layout, data.draw(st.permutations(range(sum(map(len, lists))))))
    values = sorted_lists(lists)
    bounds = data.draw(bounds_of(values))
    expected = expected_counts(values, bounds)

    places = Places.of(runs, bounds)

    assert places.found(values_of(places.slices(), stored)).tolist() == expected
    only = data.draw(st.sampled_from([0.0, 0.5, 1.0]))
    assert counted(runs, stored, bounds, layout.guide, only).tolist() == expected


@given(lists_of_runs(), layouts, st.data())
def test_the_counts_of_parts_of_the_runs_add_up(lists: list[List], layout: Layout, data: st.DataObject) -> None:
    runs, stored = runs_of(lists, layout, range(sum(map(len, lists))))
    bounds = data.draw(bounds_of(sorted_lists(lists)))
    part = np.sort(np.array(data.draw(st.lists(st.integers(0, 3), min_size=len(runs), max_size=len(runs))), np.int64))

    parts = list(runs.in_parts(part))

    assert [len(one) for one in parts] == [count for count in np.bincount(part, minlength=4).tolist() if count]
    added = np.zeros(sum(map(len, bounds)), np.int64)
    for one in parts:
        added += counted(one, stored, bounds, layout.guide, 1.0)
    assert added.tolist() == expected_counts(sorted_lists(lists), bounds)


@given(st.lists(st.lists(numbers, max_size=9).map(sorted), min_size=1, max_size=5), st.lists(numbers, min_size=1))
def test_the_first_value_that_is_not_below(runs: list[list[float]], wanted: list[float]) -> None:
    values, ends = np.array(sum(runs, []), np.float64), np.cumsum([len(run) for run in runs])  # noqa: RUF017  # few
    run = np.arange(len(wanted)) % len(runs)
    begin = (ends - [len(one) for one in runs])[run]

    found = first_not_below(values, begin, ends[run], np.array(wanted))

    expected = [sum(value < bound for value in runs[own]) for own, bound in zip(run, wanted, strict=True)]
    assert (found - begin).tolist() == expected


@pytest.mark.parametrize("bounds", [1, 20])
def test_few_values_are_read(bounds: int) -> None:
    rng = np.random.default_rng(2)
    lists = [[np.sort(rng.uniform(-1000, 1000, 1 << 18)) for _ in range(4)]]
    runs, stored = runs_of(lists, Layout(), range(4))
    wanted = [np.linspace(-999, 999, bounds)]

    places = Places.of(runs, wanted)
    slices = places.slices()
    narrowed = places.narrowed(guides_of(slices, stored, 128, np.ones(len(slices))))

    assert slices.size.sum() <= 4 * bounds * 1024
    assert narrowed.slices().size.sum() <= 4 * bounds * 128
    assert narrowed.found(values_of(narrowed.slices(), stored)).tolist() == expected_counts(sorted_lists(lists), wanted)


def test_near_slices_are_read_as_one() -> None:
    """A thousand bounds in a run of 2^18 values are in each interval between two marks."""
    values = np.sort(np.random.default_rng(3).uniform(-1000, 1000, 1 << 18))
    runs, _ = runs_of([[values]], Layout(), [0])
    slices = Places.of(runs, [np.linspace(-1000, 1000, 1001)]).slices()
    assert len(slices) == 1


@given(numbers, numbers, st.sampled_from([1, 2, 3, 20, 1000]))
def test_edges_are_rounded_once(one: float, other: float, bins: int) -> None:
    first, last = sorted((one, other))
    found = edges(first, last, bins)
    assert (len(found), found[0], found[-1]) == (bins + 1, first, last)
    assert found == sorted(found)
    for number in (1, bins // 2, bins - 1):
        assert found[number] == float(Fraction(first) + Fraction(number, bins) * (Fraction(last) - Fraction(first)))
