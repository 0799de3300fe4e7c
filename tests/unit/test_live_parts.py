"""Live readings: spans, interest, and the queue of a listener."""

import itertools
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from query_api.readings.live.listeners import Gap, Listener, LiveBounds
from query_api.readings.live.reader import Seen
from shared.readings import announce as live
from shared.readings.announce import ANY_DEVICE, Interest, Span, parse_span, parse_wanted, spans
from shared.readings.model import Reading

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)


def reading(device_id: int, recorded_at: int, received_at: int) -> Reading:
    return Reading(device_id, recorded_at, received_at, 0, 0, 0)


MOMENTS = st.integers(0, 100 * live.APART)


@given(st.lists(st.tuples(MOMENTS, MOMENTS), max_size=60))
def test_each_reading_is_in_one_of_few_spans(moments: list[tuple[int, int]]) -> None:
    readings = [reading(7, *both) for both in moments]
    found = list(spans(7, readings))
    assert len(found) <= live.MAX_SPANS
    for one in readings:
        around = [s for s in found if s.first <= one.recorded_at <= s.last]
        assert len(around) == 1
        assert around[0].received_first <= one.received_at <= around[0].received_last
    if len(found) < live.MAX_SPANS:
        recorded = sorted(one.recorded_at for one in readings)
        apart = sum(b - a >= live.APART for a, b in itertools.pairwise(recorded))
        assert len(found) == (apart + 1 if readings else 0)


def test_a_span_does_not_cover_the_time_between_distant_readings() -> None:
    readings = [reading(7, 5 * live.APART, 1), reading(7, 0, 3), reading(7, 10, 2)]
    assert list(spans(7, readings)) == [Span(7, 0, 10, 2, 3), Span(7, 5 * live.APART, 5 * live.APART, 1, 1)]


def test_interest_is_false_without_wanted_devices() -> None:
    now = 0.0
    interest = Interest(lambda: now)
    readings = [reading(7, 1, 1), reading(8, 2, 2), reading(7, 3, 3)]
    assert not interest
    interest.add([7, 9])
    assert interest
    assert interest.spans(readings) == [Span(7, 1, 3, 1, 3)]
    now = live.EXPIRES_S
    assert interest.spans(readings) == []
    assert not interest


def test_a_process_that_just_subscribed_announces_every_reading() -> None:
    now = 0.0
    interest = Interest(lambda: now)
    interest.begin()
    assert interest
    assert interest.spans([reading(7, 1, 1), reading(8, 2, 2)]) == [Span(ANY_DEVICE, 1, 2, 1, 2)]
    now = live.REPEAT_S + 1
    assert interest.spans([reading(7, 1, 1)]) == []
    assert not interest


@pytest.mark.parametrize("payload", ["", "7", "[7]", "[7,1,2,3,1e99]", "[7,1,2,3,-1]", "[-1,1,2,3,4]", "nonsense"])
def test_a_malformed_span_is_ignored(payload: str) -> None:
    assert parse_span(payload) is None


@pytest.mark.parametrize("payload", ["", "7", '["7"]', "[0]", "[" + "9" * 7000 + "]"])
def test_malformed_wanted_devices_are_ignored(payload: str) -> None:
    assert parse_wanted(payload) == []


def test_recent_ids_are_cached() -> None:
    seen = Seen(3)
    assert [seen.is_new(number) for number in (1, 2, 1, 3, 2, 4, 1)] == [True, True, False, True, False, True, True]


async def test_a_listener_that_does_not_read_gets_the_number_of_missed_readings() -> None:
    listener = Listener([7], bounds=LiveBounds(max_events=2))
    for number in range(5):
        listener.send(b"%d\n\n" % number, NOON - timedelta(seconds=number))
    listener.tell(Gap("why", NOON - timedelta(hours=1)))
    events = listener.events()
    assert await anext(events) == b"retry: 2000\n\n"
    assert await anext(events) == (
        b'0\n\n1\n\nevent: dropped\ndata: {"count":3,"since":"2026-01-31T11:00:00.000000Z"}\n\n'
    )
    listener.send(b"5\n\n", NOON)
    assert await anext(events) == b"5\n\n"
    listener.end()
    assert [block async for block in events] == []


async def test_blocks_are_bounded() -> None:
    listener = Listener([7], bounds=LiveBounds(block_bytes=3))
    for _ in range(3):
        listener.send(b"ab", NOON)
    events = listener.events()
    assert [await anext(events) for _ in range(3)] == [b"retry: 2000\n\n", b"abab", b"ab"]
