"""Downsampling, for any readings in any blocks."""

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

from query_api.readings.plots.downsampling import MIN_POINTS, Downsampler, Times, Values, _extremes

VALUES = st.sampled_from([0.0, -0.0, 1.0, -1.0, 1000.0, -1000.0, 5e-324]) | st.floats(-1000, 1000)
READINGS = st.lists(st.tuples(st.integers(0, 40) | st.integers(0, 10**16), VALUES), min_size=1, max_size=300)


def downsample(times: Times, values: Values, points: int, block: int) -> tuple[Times, Values]:
    line = Downsampler(int(times[0]), int(times[-1]), points)
    for at in range(0, len(times), block):
        line.add(times[at : at + block], values[at : at + block])
    return line.result()


@given(READINGS, st.integers(MIN_POINTS, 60), st.integers(1, 300))
@example([(7, 1.0)] * 100, 5, 10)
@example([(n, 1.0) for n in range(100)], 4, 7)
@example([(0, 1.0)] + [(10**16, float(n)) for n in range(100)], 5, 100)
def test_the_extremes_and_the_ends_are_kept(readings: list[tuple[int, float]], points: int, block: int) -> None:
    readings.sort(key=lambda reading: reading[0])
    times = np.array([at for at, _ in readings], np.int64)
    values = np.array([value for _, value in readings])
    chosen_times, chosen = downsample(times, values, points, block)
    assert len(chosen) == len(chosen_times) <= points
    if len(readings) <= points:
        assert list(zip(chosen_times.tolist(), chosen.tolist(), strict=True)) == readings
    assert (chosen.min(), chosen.max()) == (values.min(), values.max())
    assert (chosen_times[0], chosen[0]) == readings[0]
    assert (chosen_times[-1], chosen[-1]) == readings[-1]
    assert (np.diff(chosen_times) >= 0).all()
    assert set(zip(chosen_times.tolist(), chosen.tolist(), strict=True)) <= set(readings)
    whole_times, whole = downsample(times, values, points, len(times))
    assert chosen_times.tolist() == whole_times.tolist()
    assert chosen.tolist() == whole.tolist()


@given(READINGS, st.integers(1, 30))
def test_the_extremes_are_those_of_a_sort(readings: list[tuple[int, float]], span: int) -> None:
    readings.sort(key=lambda reading: reading[0])
    spans = np.array([at for at, _ in readings], np.int64) // span
    values = np.array([value for _, value in readings])
    order = np.lexsort((values, spans))  # stable: -0.0 and 0.0 are equal
    starts = np.flatnonzero(np.diff(spans, prepend=-1))
    ends = np.append(starts[1:], len(spans)) - 1
    expected = np.unique(np.concatenate((order[starts], order[ends], [0, len(spans) - 1])))
    assert _extremes(spans, values).tolist() == expected.tolist()


def test_a_line_has_nearly_the_maximum_number_of_points() -> None:
    times = np.arange(100_000, dtype=np.int64) * 1_000_000
    values = np.sin(times / 1e9) * 900
    for points in (10, 100, 1000, 10_000):
        assert points - 2 <= len(downsample(times, values, points, 4096)[0]) <= points


def test_memory_does_not_grow_with_the_readings() -> None:
    values = np.random.default_rng(1).uniform(-1000, 1000, 4096)
    line = Downsampler(0, 1000 * 4096, 100)
    for block in range(1000):
        line.add(np.arange(4096) + block * 4096, values)
        assert len(line._times) <= 4 * 100 + 2
    assert len(line.result()[0]) in range(98, 101)
