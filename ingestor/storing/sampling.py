"""The dead letters of one minute are bounded: beyond the bound messages are counted, and not kept (ADR 26).

Of each topic the first DEAD_LETTERS_PER_MINUTE become rows, and of all topics together TOPICS times as many. The
remaining messages are counted: in one row for each topic that has used up its own part, and in one row for all other
topics. No I/O here: a batch's sample is taken before its dead letters are written, and remembered after its COMMIT.
"""

from collections import Counter
from collections.abc import Iterable, Mapping

import msgspec

from shared.readings.dead_letters import Omitted
from shared.readings.model import DeadLetter

WINDOW_S = 60.0
TOPICS = 20
"""All topics together may have as many dead letters as this many topics with their full part each."""
MOST = 100_000
"""Dead letters of all topics in a minute, unless one topic's part is larger. It also bounds the memory that is used."""
UNIT_BYTES = 64 * 1024
"""A dead letter counts as one, and as one more for each of these."""

_Key = int
_OTHERS: _Key = 0


def _key(topic: str) -> _Key:
    """A topic may be 64 KiB long; its hash is not."""
    return hash(topic) or 1


def _units(letter: DeadLetter) -> int:
    size = len(letter.payload) + len(letter.topic) + len(letter.content_type or "")
    return 1 + size // UNIT_BYTES


class Sample(msgspec.Struct, frozen=True):
    """What becomes of the dead letters of a batch: those that are kept, and counts of the others."""

    kept: list[DeadLetter]
    omitted: dict[_Key, Omitted]
    spent: Counter[_Key]


class Sampler:
    """Decides which dead letters are kept, by what was kept in this minute. `topic_filter`: for the count of others."""

    def __init__(self, per_minute: int, topic_filter: str) -> None:
        self._part = per_minute
        self._whole = max(per_minute, min(TOPICS * per_minute, MOST))
        self._filter = topic_filter
        self._ends_at = float("-inf")
        self._spent: Counter[_Key] = Counter()
        self._left = self._whole
        self._rows: dict[_Key, int] = {}

    def take(self, letters: Iterable[DeadLetter], now: float) -> Sample:
        """Return which of the dead letters are kept. `now`: seconds of a monotonic clock."""
        if now >= self._ends_at:
            self._ends_at = now + WINDOW_S
            self._spent.clear()
            self._left = self._whole
            self._rows.clear()
        sample, left = Sample([], {}, Counter()), self._left
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

    def _omit(self, letter: DeadLetter, key: _Key, sample: Sample) -> None:
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
            f"counted, not kept: more messages of this topic, after the first {self._part} of a minute "
            "(DEVICESTAT_DEAD_LETTERS_PER_MINUTE)"
        )

    @property
    def _others_detail(self) -> str:
        return (
            f"counted, not kept: messages of several topics, after the first {self._whole} of a minute "
            "(DEVICESTAT_DEAD_LETTERS_PER_MINUTE bounds all topics together, too)"
        )

    def remember(self, sample: Sample, rows: Mapping[_Key, int]) -> None:
        """The sample is committed. `rows`: the row that counts what was omitted, by the key in the sample."""
        self._spent.update(sample.spent)
        self._left -= sample.spent.total()
        self._rows.update(rows)
