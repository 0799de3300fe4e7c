"""Time zones of the IANA database (the package tzdata), and the moments at which clocks show a time."""

from bisect import bisect_left
from collections.abc import Sequence
from datetime import MAXYEAR, MINYEAR, UTC, datetime, timedelta
from functools import cache, lru_cache
from importlib import resources
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from query_api.errors import displayed

_MICROSECONDS = 1_000_000
_DAY_S = 86_400


def read_zone(name: str) -> ZoneInfo:
    """Return the time zone of this name. Raises ValueError with the expected form."""
    if name not in _names():
        raise ValueError(
            f'expected a name of the IANA time zone database such as "Europe/Berlin", got {displayed(name)}'
        )
    return ZoneInfo(name)


@cache
def _names() -> frozenset[str]:
    """Return the names in tzdata. The host may know more names, which a worker on another host could not read."""
    return frozenset((resources.files("tzdata") / "zones").read_text(encoding="utf-8").split())


def offsets(moments: NDArray[np.int64], zone: ZoneInfo) -> NDArray[np.int64]:
    """Return the offset of the zone at each time, in minutes. `moments`: microseconds since 1970, in any order.

    RFC 3339 has no seconds in offsets, so an offset of old local time is rounded down. In the years 1 and 9999 the
    offset is 0, as the local time may be outside of the years that can be written.
    """
    years = np.unique(moments.astype("datetime64[us]").astype("datetime64[Y]").astype(np.int64)) + 1970
    since, minutes = np.array([shift for year in years.tolist() for shift in _shifts(zone, year)], np.int64).T
    at: NDArray[np.int64] = minutes[np.searchsorted(since, moments, side="right") - 1]
    return at


@lru_cache(maxsize=4096)
def _shifts(zone: ZoneInfo, year: int) -> Sequence[tuple[int, int]]:
    """Return the start of the year in UTC and each change of the offset in it, with the offset from then on."""
    start = int(datetime(year, 1, 1, tzinfo=UTC).timestamp())
    if year in (MINYEAR, MAXYEAR):
        return [(start * _MICROSECONDS, 0)]
    end = int(datetime(year + 1, 1, 1, tzinfo=UTC).timestamp())
    shifts = [(start, _offset_at(start, zone))]
    for day in range(start, end, _DAY_S):
        latest = _offset_at(day + _DAY_S - 1, zone)
        if latest != shifts[-1][1]:
            seconds = range(day, day + _DAY_S)
            changed = bisect_left(seconds, 1, key=lambda second: int(_offset_at(second, zone) == latest))
            shifts.append((seconds[changed], latest))
    return [(second * _MICROSECONDS, offset) for second, offset in shifts]


def _offset_at(second: int, zone: ZoneInfo) -> int:
    offset = datetime.fromtimestamp(second, zone).utcoffset()
    assert offset is not None, "a time in a zone has an offset"
    return offset // timedelta(minutes=1)


def first_shown(wall: datetime, zone: ZoneInfo) -> datetime:
    """Return the first moment, in UTC, at which clocks in the zone show this time or, if they skip it, a later one.

    Raises OverflowError outside of the years 1 to 9999.
    """
    before, after = (wall.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1))
    if before <= after:  # the clocks show the time once, or this is the first of two times
        return before
    seconds = range(int(after.timestamp()), int(before.timestamp()))
    skipped = bisect_left(seconds, wall, key=lambda second: _shown_at(second, zone))
    return after + timedelta(seconds=skipped)


def _shown_at(second: int, zone: ZoneInfo) -> datetime:
    return datetime.fromtimestamp(second, zone).replace(tzinfo=None)
