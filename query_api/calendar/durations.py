"""Durations of ISO 8601 in whole numbers, such as P1D, P3M or P1DT12H.

Years, months, weeks and days are calendar units: a day has 23 or 25 hours where the clocks change. Hours, minutes and
seconds are exact.
"""

import re
from datetime import date, datetime, timedelta

import msgspec

MAX_LENGTH = 40
"""Characters of a duration."""
MAX_DAYS = 36_525
"""A century."""
_DURATION = re.compile(
    r"P(?:(?P<weeks>\d+)W|(?:(?P<years>\d+)Y)?(?:(?P<months>\d+)M)?(?:(?P<days>\d+)D)?"
    r"(?:T(?=\d)(?:(?P<hours>\d+)H)?(?:(?P<minutes>\d+)M)?(?:(?P<seconds>\d+)S)?)?)",
    re.ASCII,
)
_DAYS_OF = {
    "years": 365.25, "months": 365.25 / 12, "weeks": 7, "days": 1,
    "hours": 1 / 24, "minutes": 1 / 1440, "seconds": 1 / 86_400,
}  # fmt: skip


class Duration(msgspec.Struct, frozen=True):
    """A length of time: the number of each unit in the text; None for the other units."""

    years: int | None = None
    months: int | None = None
    weeks: int | None = None
    days: int | None = None
    hours: int | None = None
    minutes: int | None = None
    seconds: int | None = None

    @property
    def smallest(self) -> str:
        """Smallest unit in the text."""
        return [name for name in self.__struct_fields__ if getattr(self, name) is not None][-1]

    @property
    def total_months(self) -> int:
        """Years and months, in months."""
        return (self.years or 0) * 12 + (self.months or 0)

    @property
    def total_days(self) -> int:
        """Weeks and days, in days."""
        return (self.weeks or 0) * 7 + (self.days or 0)

    @property
    def exact(self) -> timedelta:
        """Hours, minutes and seconds."""
        return timedelta(hours=self.hours or 0, minutes=self.minutes or 0, seconds=self.seconds or 0)

    def before(self, wall: datetime) -> datetime:
        """Return the wall-clock time minus the years, months, weeks and days.

        If the resulting month is too short for the day, the result is the last day of the month.
        """
        year, month = divmod(wall.year * 12 + wall.month - 1 - self.total_months, 12)
        days_in_month = (date(year + (month + 1) // 12, (month + 1) % 12 + 1, 1) - date(year, month + 1, 1)).days
        day = min(wall.day, days_in_month)
        return wall.replace(year=year, month=month + 1, day=day) - timedelta(days=self.total_days)


def parse_duration(text: str) -> Duration:
    """Parse an ISO 8601 duration. Raises ValueError with the expected form."""
    found = _DURATION.fullmatch(text) if len(text) <= MAX_LENGTH else None
    if found is None or not any(found.groupdict().values()):
        raise ValueError('expected an ISO 8601 duration in whole numbers, such as "P1D", "P1W", "P1M" or "PT12H"')
    amounts = {unit: int(digits) for unit, digits in found.groupdict().items() if digits is not None}
    if not 0 < sum(amount * _DAYS_OF[unit] for unit, amount in amounts.items()) <= MAX_DAYS:
        raise ValueError("expected a duration of at least a second and at most a century")
    return Duration(**amounts)
