"""An array in columns has the same values as its elements, to the bit and to the microsecond."""

import struct
from copy import copy
from datetime import UTC, datetime, timedelta, timezone
from itertools import cycle, islice
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestor.payload.columns import FEWEST, in_columns
from ingestor.payload.decode import Measurement, decode
from ingestor.payload.formats import Sample
from ingestor.payload.measurements import Measurements, Refusal
from shared.readings.model import DAY, SECOND, Reason, to_datetime, to_microseconds
from shared.readings.rules import EARLIEST_S, LATEST_S, accepted_at

NOW = to_microseconds(datetime(2026, 6, 15, 12, tzinfo=UTC))
TEN_YEARS = 3653 * DAY
FOR_EVER = 4000 * 366 * DAY

axes = st.floats(-1000, 1000)
zones = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
texts = st.integers(NOW - TEN_YEARS + DAY, NOW).flatmap(
    lambda moment: zones.map(lambda zone: to_datetime(moment).astimezone(zone))
)
whole = texts.map(lambda moment: moment.replace(microsecond=0))
numbers = st.floats((NOW - TEN_YEARS) / SECOND, NOW / SECOND)
kinds = st.sampled_from([st.none(), texts, whole, whole | texts, numbers, st.none() | texts, numbers | texts])
"""Kinds of timestamps in one array."""


@st.composite
def arrays(draw: st.DrawFn, timestamps: st.SearchStrategy[datetime | float | None] | None = None) -> list[Sample]:
    chosen = draw(kinds) if timestamps is None else timestamps
    some = draw(st.lists(st.builds(Sample, axes, axes, axes, chosen), min_size=1, max_size=6))
    return [copy(sample) for sample in islice(cycle(some), draw(st.integers(FEWEST, FEWEST + 9)))]


def one_by_one(samples: list[Sample], oldest_age: int) -> list[Measurement] | None:
    """None if one timestamp is not accepted."""
    measured = []
    for sample in samples:
        moment = None
        if sample.timestamp is not None and (moment := accepted_at(sample.timestamp, NOW, oldest_age)) is None:
            return None
        measured.append(Measurement(sample.x, sample.y, sample.z, moment))
    return measured


def bits(measured: Measurements | list[Measurement]) -> list[bytes]:
    return [struct.pack("ddd?q", m.x, m.y, m.z, m.recorded_at is None, m.recorded_at or 0) for m in measured]


@given(arrays())
def test_columns_hold_what_the_elements_hold(samples: list[Sample]) -> None:
    expected = one_by_one(samples, TEN_YEARS)
    before = msgspec.json.encode(samples)
    found = in_columns(samples, NOW, TEN_YEARS)
    assert msgspec.json.encode(samples) == before
    if found is not None:
        assert expected is not None
        assert bits(found) == bits(expected)
        assert bits([found[place] for place in range(len(found))]) == bits(expected)
        assert bits(found[3:7]) == bits(expected[3:7])


@pytest.mark.parametrize("timestamps", [st.none(), texts, whole, whole | texts, numbers])
def test_all_that_is_of_one_kind_has_columns(timestamps: st.SearchStrategy[datetime | float | None]) -> None:
    @given(arrays(timestamps))
    def has_columns(samples: list[Sample]) -> None:
        assert isinstance(in_columns(samples, NOW, TEN_YEARS), Measurements)

    has_columns()


anything = (
    st.datetimes(timezones=zones)
    | st.floats()
    | st.sampled_from([0.0, -1.0, EARLIEST_S - 0.5, float(EARLIEST_S), float(LATEST_S), NOW / SECOND + 86_401])
)


@given(arrays(texts | whole), st.integers(0, FEWEST - 1), anything, st.sampled_from([TEN_YEARS, FOR_EVER]))
def test_a_timestamp_that_is_not_accepted_is_in_no_column(
    samples: list[Sample], place: int, timestamp: datetime | float, oldest_age: int
) -> None:
    samples[place].timestamp = timestamp
    _agree(samples, oldest_age)


@given(arrays(numbers), st.integers(0, FEWEST - 1), st.floats(), st.sampled_from([TEN_YEARS, FOR_EVER]))
def test_a_number_that_is_no_time_is_in_no_column(
    samples: list[Sample], place: int, timestamp: float, oldest_age: int
) -> None:
    samples[place].timestamp = timestamp
    _agree(samples, oldest_age)
    assert (in_columns(samples, NOW, oldest_age) is None) == (one_by_one(samples, oldest_age) is None)


@given(arrays(st.datetimes(timezones=zones)))
def test_times_of_any_year_are_taken_as_they_are_one_by_one(samples: list[Sample]) -> None:
    _agree(samples, FOR_EVER)


@pytest.mark.parametrize("timestamp", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59.9-14:00"])
def test_a_time_that_has_no_year_in_utc_is_refused_alone(timestamp: str) -> None:
    """All readings of the array were refused as malformed."""
    element: dict[str, Any] = {"x": 1, "y": 2, "z": 3}
    payload = msgspec.json.encode([element | {"timestamp": timestamp}] + [element] * FEWEST)
    first, *others = decode(payload, None, NOW, TEN_YEARS)
    assert isinstance(first, Refusal)
    assert first.reason is Reason.BAD_TIMESTAMP
    assert all(isinstance(other, Measurement) for other in others)


def _agree(samples: list[Sample], oldest_age: int) -> None:
    """Columns are a fast path: either None, or equal to the measurements one by one."""
    found, expected = in_columns(samples, NOW, oldest_age), one_by_one(samples, oldest_age)
    assert found is None or (expected is not None and bits(found) == bits(expected))


@pytest.mark.parametrize("count", [FEWEST - 1, FEWEST, 10_000])
@pytest.mark.parametrize("timestamp", [None, "2026-06-15T12:00:00.1Z", "2026-06-15T14:00:00+02:00", 1781524800.25])
def test_a_long_array_is_decoded_into_columns(count: int, timestamp: str | float | None) -> None:
    element = {"x": -0.0, "y": 1e-320, "z": 0.1, "timestamp": timestamp}
    one = decode(msgspec.json.encode([element]), None, NOW, TEN_YEARS)
    for payload in (msgspec.json.encode([element] * count), msgspec.msgpack.encode([element] * count)):
        results = decode(payload, None, NOW, TEN_YEARS)
        assert isinstance(results, Measurements) is (count >= FEWEST)
        assert bits(results) == bits([*one] * count)


@given(st.data())
def test_one_bad_element_leaves_the_others_as_they_are(data: st.DataObject) -> None:
    samples = data.draw(arrays(texts))
    elements = [msgspec.to_builtins(sample, builtin_types=(datetime,)) for sample in samples]
    place = data.draw(st.integers(0, len(elements) - 1))
    bad = data.draw(
        st.sampled_from([{"x": 2000}, {"timestamp": 5}, {"z": "no"}, {"timestamp": "1969-07-20T00:00:00Z"}])
    )
    good = decode(msgspec.json.encode(elements), None, NOW, TEN_YEARS)
    elements[place] |= bad
    results = decode(msgspec.json.encode(elements), None, NOW, TEN_YEARS)
    assert not isinstance(results[place], Measurement)
    assert [*results[:place], *results[place + 1 :]] == [*good[:place], *good[place + 1 :]]
