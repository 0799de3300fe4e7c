"""The limit on dead letters per minute: messages above it are counted and not kept (ADR 26).

The first DEAD_LETTERS_PER_MINUTE of each topic become rows, and TOPICS times as many of all topics together. The others
are counted: in one row for each topic that has used up its share, and in one row for all other topics. Pure: a batch's
sample is taken before its dead letters are written, and remembered after its COMMIT.
"""

from collections import Counter
from collections.abc import Iterable, Mapping

import msgspec

from shared.readings.dead_letters import Omitted
from shared.readings.model import DeadLetter

WINDOW_S = 60.0
TOPICS = 20
"""Limit of all topics together, in shares of one topic."""
MOST = 100_000
"""Most dead letters of all topics in a minute, unless one topic's share is larger. It also bounds memory."""
UNIT_BYTES = 64 * 1024
"""A dead letter counts as one, plus one for each multiple of this size."""

_Key = int
_OTHERS: _Key = 0


def _key(topic: str) -> _Key:
    """Return a short key for a topic, which may be 64 KiB long."""
    return hash(topic) or 1


def _units(letter: DeadLetter) -> int:
    size = len(letter.payload) + len(letter.topic) + len(letter.content_type or "")
    return 1 + size // UNIT_BYTES


class LetterSample(msgspec.Struct, frozen=True):
    """The dead letters of a batch: those that are kept, and counts of the others."""

    kept: list[DeadLetter]
    omitted: dict[_Key, Omitted]
    spent: Counter[_Key]


class Sampler:
    """Decides which dead letters are kept in each minute. `topic_filter`: topic of the row that counts all others."""

    def __init__(self, per_minute: int, topic_filter: str) -> None:
        self._part = per_minute
        self._whole = max(per_minute, min(TOPICS * per_minute, MOST))
        self._filter = topic_filter
        self._ends_at = float("-inf")
        self._spent: Counter[_Key] = Counter()
        self._left = self._whole
        self._rows: dict[_Key, int] = {}

    def take(self, letters: Iterable[DeadLetter], now: float) -> LetterSample:
        """Return which of the dead letters are kept. `now`: seconds of a monotonic clock."""
        if now >= self._ends_at:
            self._ends_at = now + WINDOW_S
            self._spent.clear()
            self._left = self._whole
            self._rows.clear()
        sample, left = LetterSample([], {}, Counter()), self._left
        for letter in letters:
            key = _key(letter.topic)
            is_used_up = self._spent[key] + sample.spent[key] >= self._part
            if left > 0 and not is_used_up:
                sample.kept.append(letter)
                sample.spent[key] += _units(letter)
                left -= _units(letter)
            else:
                self._omit(letter, key if is_used_up else _OTHERS, sample)
        return sample

    def _omit(self, letter: DeadLetter, key: _Key, sample: LetterSample) -> None:
        omitted = sample.omitted.get(key)
        if omitted is None:
            topic, detail = (
                (self._filter, self._others_detail) if key == _OTHERS else (letter.topic, self._topic_detail)
            )
            omitted = sample.omitted[key] = Omitted(topic, detail, self._rows.get(key))
        omitted.add(letter)

    @property
    def _topic_detail(self) -> str:
        return (
            f"counted, not kept: messages of this topic after the first {self._part} of a minute "
            "(DEVICESTAT_DEAD_LETTERS_PER_MINUTE)"
        )

    @property
    def _others_detail(self) -> str:
        return (
            f"counted, not kept: messages of several topics after the first {self._whole} of a minute "
            "(DEVICESTAT_DEAD_LETTERS_PER_MINUTE also limits all topics together)"
        )

    def remember(self, sample: LetterSample, rows: Mapping[_Key, int]) -> None:
        """Note a committed sample. `rows`: id of the row with the count, by the key in the sample."""
        self._spent.update(sample.spent)
        self._left -= sample.spent.total()
        self._rows.update(rows)
