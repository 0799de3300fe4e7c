"""Which readings are late, by the announcements that a writer knows (Hypothesis)."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from shared.postgres.arrays import EARLIEST
from shared.readings.announcements import Announcements
from shared.readings.model import Reading
from shared.readings.rows import Rows

devices, times = st.integers(1, 6), st.integers(0, 20)
announced = st.lists(st.dictionaries(devices, times | st.just(EARLIEST)), max_size=5)


@given(announced, st.lists(st.tuples(devices, times), max_size=30))
def test_late_readings_are_older_than_the_last_announcement(
    announced: list[dict[int, int]], stored: list[tuple[int, int]]
) -> None:
    known: dict[int, int] = {}
    announcements = Announcements()
    for one in announced:
        known |= one
        announcements.add(np.array(sorted(one), np.int64), np.array([one[device] for device in sorted(one)], np.int64))
    rows = Rows.of(Reading(device, at, 0, 1.0, 2.0, 3.0) for device, at in stored)

    found = announcements.late(rows.columns())

    expected = [at < known.get(device, EARLIEST) for device, at in stored]
    assert (found.tolist() if found is not None else [False] * len(stored)) == expected
    assert (found is None) == (not any(expected))
