"""The simulated signal is plausible and reproducible."""

import itertools
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.simulate.waveform import DAY_S, GRAVITY, HEAVY_STEP, sample
from shared.readings.rules import AXIS_LIMIT

NOON = 1_767_268_800.0  # 2026-01-01T12:00:00Z


def test_the_same_seed_device_and_moment_give_the_same_sample() -> None:
    assert sample(7, 3, NOON + 0.25) == sample(7, 3, NOON + 0.25)


@pytest.mark.parametrize("other", [(8, 3, NOON), (7, 4, NOON), (7, 3, NOON + 1)])
def test_another_seed_device_or_moment_gives_another(other: tuple[int, int, float]) -> None:
    assert sample(*other) != sample(7, 3, NOON)


@given(
    seed=st.integers(),
    device=st.integers(1, 100_000),
    moment=st.floats(0, 4e9, allow_nan=False),
)
def test_every_sample_is_a_valid_reading(seed: int, device: int, moment: float) -> None:
    values = sample(seed, device, moment)
    assert all(-AXIS_LIMIT <= axis <= AXIS_LIMIT for axis in (values.x, values.y, values.z))


def test_gravity_pulls_on_z_alone() -> None:
    day = [sample(1, 1, NOON + second) for second in range(0, int(DAY_S), 97)]
    assert statistics.median(value.z for value in day) == pytest.approx(GRAVITY, abs=1)
    assert statistics.median(value.x for value in day) == pytest.approx(0, abs=1)


def test_neighbouring_samples_are_near_each_other() -> None:
    """The signal is no white noise: it changes little within a second."""
    hour = [sample(1, 2, NOON + second).y for second in range(3600)]
    steps = [abs(after - before) for before, after in itertools.pairwise(hour)]
    assert statistics.median(steps) < (max(hour) - min(hour)) / 10


def test_the_machine_works_harder_at_noon_than_at_midnight() -> None:
    def spread(start: float) -> float:
        return statistics.median(abs(sample(1, 1, start + second).x) for second in range(0, 7200, 7))

    assert spread(NOON - 3600) > 1.5 * spread(NOON + DAY_S / 2 - 3600)


def test_now_and_then_there_is_a_shock() -> None:
    day = [sample(1, 1, NOON + second) for second in range(0, int(DAY_S), 20)]
    hardest = max(abs(value.x) for value in day)
    usual = statistics.median(abs(value.x) for value in day)
    assert hardest > 5 * usual


def test_at_noon_a_heavy_workpiece_moves_z_of_each_fifth_machine() -> None:
    def medians(device: int, start: float) -> list[float]:
        day = [sample(1, device, start + second) for second in range(0, 3600, 7)]
        return [statistics.median(getattr(value, axis) for value in day) for axis in "xyz"]

    for device in range(1, 11):
        before, after, later = (medians(device, NOON + hours * 3600) for hours in (-1, 0, 3))
        step = HEAVY_STEP if device in (1, 6) else 0
        assert after[2] - before[2] == pytest.approx(step, abs=1)
        assert later[2] - before[2] == pytest.approx(0, abs=1)
        assert after[:2] == pytest.approx(before[:2], abs=1)
