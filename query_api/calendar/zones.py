"""Time zones of the IANA database (the package tzdata), and the moments at which clocks show a time."""

from bisect import bisect_left
from datetime import UTC, datetime, timedelta
from functools import cache
from importlib import resources
from zoneinfo import ZoneInfo

from query_api.errors import displayed


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
