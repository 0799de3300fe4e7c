"""Medians of absolute deviations by the runs of values, against a sort of all deviations (Hypothesis)."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from query_api.statistics.blocks.layout import Floats, Layout
from query_api.statistics.blocks.reading.order_statistics import ranks
from query_api.statistics.blocks.selection.deviations import Mirrored, middle
from query_api.statistics.blocks.selection.narrowing import Narrowed, narrow_all
from tests.unit.test_selection import (
    List,
    assert_found,
    guides_of,
    layouts,
    lists_of_runs,
    runs_of,
    sorted_lists,
    values_of,
)


def median(values: Floats) -> float:
    return middle(float(values[(len(values) - 1) // 2]), float(values[len(values) // 2]))


def centers(data: st.DataObject, lists: list[Floats]) -> Floats:
    """The median of each list, one of its values, or any."""
    kinds = data.draw(st.lists(st.sampled_from(["median", "value", "any"]), min_size=len(lists), max_size=len(lists)))
    return np.array([center(data, kind, one) for kind, one in zip(kinds, lists, strict=True)])


def center(data: st.DataObject, kind: str, one: Floats) -> float:
    if kind == "any" or len(one) == 0:
        return data.draw(st.sampled_from([0.0, 5e-324, -1000.0, 1000.0, 0.1]))
    return median(one) if kind == "median" else float(one[data.draw(st.integers(0, len(one) - 1))])


def found(narrowed: Narrowed, mirrored: Mirrored, stored: list[Floats]) -> Floats:
    originals = values_of(mirrored.original(narrowed.runs), stored)
    return narrowed.found(mirrored.values(narrowed.runs, originals))


def refine(narrowed: Narrowed, mirrored: Mirrored, stored: list[Floats], layout: Layout, chance: float) -> Narrowed:
    only = np.random.default_rng(1).random(len(narrowed.runs)) < chance
    guides = guides_of(mirrored.original(narrowed.runs), stored, layout.guide, only)
    return narrowed.refined(mirrored.guides(narrowed.runs, guides))


@given(lists_of_runs(), layouts, st.data())
@settings(max_examples=200)
def test_median_deviations_are_those_of_a_sort(lists: list[List], layout: Layout, data: st.DataObject) -> None:
    runs, stored = runs_of(lists, layout, data.draw(st.permutations(range(sum(map(len, lists))))))
    values = sorted_lists(lists)
    center = centers(data, values)
    counts = np.array([len(one) for one in values])
    low, high = ranks(counts, [0.5])

    mirrored = Mirrored.of(runs, center)
    narrowed = narrow_all(mirrored.runs, len(lists), *(mirrored.ranks(counts, ranks) for ranks in (low, high)))

    expected = [np.sort(np.abs(one - own)) for one, own in zip(values, center, strict=True)]
    assert_found(found(narrowed, mirrored, stored), expected, low, high)
    refined = refine(narrowed, mirrored, stored, layout, data.draw(st.sampled_from([0.0, 0.5, 1.0])))
    assert_found(found(refined, mirrored, stored), expected, low, high)


@given(lists_of_runs(), layouts, st.data())
def test_the_samples_of_mirrored_runs_are_their_values(lists: list[List], layout: Layout, data: st.DataObject) -> None:
    runs, stored = runs_of(lists, layout, range(sum(map(len, lists))))
    mirrored = Mirrored.of(runs, centers(data, sorted_lists(lists)))
    whole = mirrored.values(mirrored.runs, values_of(mirrored.original(mirrored.runs), stored))
    begins = np.cumsum(mirrored.runs.size) - mirrored.runs.size
    for number, begin in enumerate(begins.tolist()):
        own = whole[begin : begin + mirrored.runs.size[number]]
        assert np.all(own[:-1] <= own[1:])
        is_own = mirrored.runs.run == number
        start = int(mirrored.runs.start[number])
        assert np.array_equal(own[mirrored.runs.position[is_own] - start], mirrored.runs.value[is_own])
    guides = guides_of(mirrored.original(mirrored.runs), stored, layout.guide, np.ones(len(mirrored.runs)))
    turned = mirrored.guides(mirrored.runs, guides)
    places = np.repeat(begins - mirrored.runs.start, turned.samples) + turned.position
    assert np.array_equal(whole[places], turned.value)


def test_as_many_samples_remain_as_the_runs_have() -> None:
    rng = np.random.default_rng(3)
    lists = [[np.sort(rng.uniform(-1000, 1000, 1 << 18)) for _ in range(4)]]
    runs, _ = runs_of(lists, Layout(), range(4))
    mirrored = Mirrored.of(runs, np.array([1.0]))
    assert len(runs.value) <= len(mirrored.runs.value) <= len(runs.value) + 2 * 4
    assert mirrored.runs.size.sum() <= (4 << 18) + 2 * 4 * 1024


@pytest.mark.parametrize("center", [0.0, 250.0])
def test_few_values_are_read(center: float) -> None:
    """Marks leave about two of 256 intervals on each side of the center."""
    rng = np.random.default_rng(2)
    lists = [[np.sort(rng.uniform(-1000, 1000, 1 << 18)) for _ in range(4)]]
    runs, stored = runs_of(lists, Layout(), range(4))
    mirrored = Mirrored.of(runs, np.array([center]))
    rank = mirrored.ranks(np.array([4 << 18]), np.array([[2 << 18]]))

    narrowed = narrow_all(mirrored.runs, 1, rank, rank)
    refined = refine(narrowed, mirrored, stored, Layout(), 1.0)

    assert narrowed.size <= 2 * 4 * 3 * 1024
    assert refined.size <= 2 * 4 * 4 * 128
    expected = np.sort(np.abs(np.concatenate(lists[0]) - center))[2 << 18]
    assert found(refined, mirrored, stored)[0, 0, 0] == expected
