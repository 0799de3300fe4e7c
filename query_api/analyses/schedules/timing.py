"""The times of a schedule's ticks, and the period of each."""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, Protocol
from zoneinfo import ZoneInfo

import msgspec

from query_api.calendar.cron import Cron
from query_api.calendar.durations import Duration, parse_duration
from query_api.calendar.period import Period
from query_api.calendar.sliding import period_before
from query_api.calendar.zones import read_zone
from query_api.errors import Fault, InvalidFields
from query_api.statistics.figures import FigureNames


class Timed(Protocol):
    """The texts that define a schedule, in a request's body or a row."""

    @property
    def cron(self) -> str: ...
    @property
    def timezone(self) -> str: ...
    @property
    def period(self) -> str | None: ...
    @property
    def align(self) -> bool: ...
    @property
    def figures(self) -> Sequence[str]: ...


class Timing(msgspec.Struct, frozen=True):
    """The parsed texts. `length`: None for all time."""

    cron: Cron
    zone: ZoneInfo
    length: Duration | None
    align: bool
    figures: FigureNames

    def period(self, tick: datetime) -> Period:
        """Return the period that the tick analyses."""
        if self.length is None:
            return Period(None, None)
        return period_before(tick, self.length, self.align, self.zone)


def read_timing(words: Timed) -> Timing:
    """Parse the texts. Raises InvalidFields with each wrong field."""
    faults: list[Fault] = []

    def read(field: str, parse: Callable[[], Any]) -> Any:
        try:
            return parse()
        except ValueError as error:
            faults.append(Fault(field, str(error)))

    zone = read("timezone", lambda: read_zone(words.timezone))
    cron = read("cron", lambda: Cron(words.cron, zone or ZoneInfo("UTC")))
    length = read("period", lambda: None if words.period is None else parse_duration(words.period))
    figures = read("figures", lambda: FigureNames.of(words.figures))
    if faults:
        raise InvalidFields(*faults)
    return Timing(cron, zone, length, words.align, figures)
