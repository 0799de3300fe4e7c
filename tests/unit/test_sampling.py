"""The limit on dead letters in a minute: some of each topic and of all topics are kept, and all are counted."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestor.storing.sampling import TOPICS, UNIT_BYTES, WINDOW_S, Sampler
from shared.readings.model import DeadLetter
from tests.letters import letter

PART = 3


def topics(letters: list[DeadLetter]) -> Counter[str]:
    return Counter(one.topic for one in letters)


def committed(sampler: Sampler, letters: list[DeadLetter], now: float) -> tuple[list[DeadLetter], Counter[str]]:
    """Return the dead letters that are kept, and the number of counted messages by topic."""
    sample = sampler.take(letters, now)
    sampler.remember(sample, dict.fromkeys(sample.omitted, 1))
    return sample.kept, Counter({omitted.topic: omitted.messages for omitted in sample.omitted.values()})


@given(st.lists(st.lists(st.integers(0, 99), max_size=150), max_size=10))
def test_each_message_is_kept_or_counted_and_what_is_kept_is_bounded(batches: list[list[int]]) -> None:
    sampler, kept, counted = Sampler(PART, "+"), Counter[str](), Counter[str]()
    for numbers in batches:
        more, omitted = committed(sampler, [letter(str(number), b"") for number in numbers], 0)
        kept += topics(more)
        counted += omitted
    sent = Counter(str(number) for numbers in batches for number in numbers)
    assert max(kept.values(), default=0) <= PART
    assert kept.total() == min(sum(min(count, PART) for count in sent.values()), TOPICS * PART)
    assert kept.total() + counted.total() == sent.total()
    assert len(counted) <= TOPICS + 1
    assert all(kept[topic] + counted[topic] == sent[topic] for topic in counted.keys() - {"+"} if not counted["+"])


def test_a_minute_later_they_are_kept_again() -> None:
    sampler, letters = Sampler(PART, "+"), [letter("a", b"")] * 5
    for start in (0.0, WINDOW_S, 5 * WINDOW_S):
        assert committed(sampler, letters, start) == ([letter("a", b"")] * 3, {"a": 2})
        assert committed(sampler, letters, start + WINDOW_S - 1) == ([], {"a": 5})


def test_an_attempt_that_was_not_committed_changes_nothing() -> None:
    sampler = Sampler(PART, "+")
    for _ in range(5):
        assert len(sampler.take([letter("a", b"")] * 3, 0).kept) == 3


def test_the_row_that_counts_is_the_same_for_a_minute() -> None:
    sampler = Sampler(1, "+")
    sample = sampler.take([letter("a", b"")] * 2, 0)
    ((key, omitted),) = sample.omitted.items()
    assert omitted.row is None
    sampler.remember(sample, {key: 7})
    assert sampler.take([letter("a", b"")], WINDOW_S - 1).omitted[key].row == 7
    assert sampler.take([letter("a", b"")] * 2, WINDOW_S).omitted[key].row is None


@pytest.mark.parametrize(("size", "kept"), [(0, 60), (UNIT_BYTES, 30), (9 * UNIT_BYTES, 6), (200 * UNIT_BYTES, 1)])
def test_large_ones_count_as_several(size: int, kept: int) -> None:
    sample = Sampler(60, "+").take([letter("a", bytes(size))] * 100, 0)
    assert len(sample.kept) == kept
