"""Where blocks end: never in a month (UTC), never between equal times, and preferably at a round time.

Retention drops whole months, and so whole blocks. Equal times in one block give each moment one place. Round ends let
calendar intervals consist of whole blocks.
"""

from itertools import pairwise

import numpy as np

from query_api.statistics.blocks.layout import Ints, Times
from shared.readings.model import SECOND

ROUND_STEPS = tuple(
    seconds * SECOND
    for seconds in (86_400, 43_200, 21_600, 10_800, 7_200, 3_600, 1_800, 900, 600, 300, 60, 10, 1)
)  # fmt: skip
"""Multiples of an earlier step are rounder times."""


def months_of(times: Times) -> Ints:
    """Return the month (UTC) of each time, counted from January 1970."""
    return times.astype("datetime64[us]").astype("datetime64[M]").astype(np.int64)


def ends_of_months(times: Times) -> Times:
    """Return the last moment of the month (UTC) of each time."""
    following = times.astype("datetime64[us]").astype("datetime64[M]") + 1
    return following.astype("datetime64[us]").astype(np.int64) - 1


def month_ends(times: Times) -> list[int]:
    """Return the position behind the last reading of each month."""
    if len(times) == 0:
        return []
    return [*(np.flatnonzero(np.diff(months_of(times))) + 1).tolist(), len(times)]


def cuts(times: Times, target: int, *, is_open: bool) -> list[int]:
    """Return the positions behind the last reading of each block of about `target` readings. The last is len(times).

    A block has half to three halves of the target. Fewer remain at the end of a month, and more or fewer where many
    times are equal. `is_open`: readings may follow, so that the last block is short: it has less than the target, and
    may be empty.
    """
    found: list[int] = []
    for begin, end in pairwise([0, *month_ends(times)]):
        is_last = end == len(times)
        found += _cuts_of_month(times[begin:end], target, begin, is_open=is_open and is_last)
    return found


def _cuts_of_month(times: Times, target: int, offset: int, *, is_open: bool) -> list[int]:
    least, most = max(1, target // 2), target + target // 2
    found, begin = [], 0
    longest = target - 1 if is_open else most
    while len(times) - begin > longest:
        begin += _first_cut(times[begin:], least, min(most, len(times) - begin - 1))
        found.append(offset + begin)
    if begin < len(times):
        found.append(offset + len(times))
    return found


def _first_cut(times: Times, least: int, most: int) -> int:
    """Return the number of readings of the first block: `least` to `most`, of which the next begins at a round time.

    There are more than `most` times. Of equally round times it is the latest.
    """
    before, until = int(times[least - 1]), int(times[most])
    for step in ROUND_STEPS:
        edge = until // step * step
        if edge > before:
            return int(np.searchsorted(times, edge))
    whole_moments = int(np.searchsorted(times, until))
    return whole_moments or int(np.searchsorted(times, until, side="right"))
