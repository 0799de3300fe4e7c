"""Times and periods in requests.

A time is RFC 3339 ("2026-01-31T12:00:00.25+01:00"), where a missing offset means UTC, or a number of
seconds since 1970. A date alone is a whole day in the request's timezone: `start` is its midnight, and `end` includes
all of it.
"""

from datetime import UTC, date, datetime, time, timedelta
from typing import Annotated, TypeVar
from zoneinfo import ZoneInfo

import msgspec
from litestar.openapi.spec import OpenAPIFormat, OpenAPIType, Schema
from litestar.params import QueryParameter

from query_api.calendar.period import Period
from query_api.calendar.zones import first_shown, read_zone
from query_api.errors import Fault
from query_api.web.answers import problems
from query_api.web.answers.problems import Refused, invalid
from shared.readings.model import to_datetime
from shared.readings.rules import EARLIEST_S, LATEST_S, from_number

_EXPECTED = (
    'expected RFC 3339 such as "2026-01-31T12:00:00Z" (without an offset it is UTC), '
    "a date, or a number of seconds since 1970"
)
_FIRST, _LAST = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_DAY = timedelta(days=1)
_Kind = TypeVar("_Kind", date, datetime, float)


_FORMS = [
    Schema(type=OpenAPIType.STRING, format=OpenAPIFormat.DATE_TIME),
    Schema(type=OpenAPIType.STRING, format=OpenAPIFormat.DATE),
    Schema(type=OpenAPIType.NUMBER, minimum=EARLIEST_S, exclusive_maximum=LATEST_S),
]
_START, _END = (
    QueryParameter(
        description=f"The period's {bound}, included: RFC 3339, where no offset means UTC; or a date in the timezone, "
        f"{day}; or seconds since 1970. If omitted, the period is open on this side.",
        schema_extra={"one_of": None, "any_of": _FORMS},
    )
    for bound, day in (("start", "from its midnight"), ("end", "which includes the whole day"))
)
Timezone = Annotated[
    str,
    QueryParameter(
        schema_extra={"format": "timezone"},
        description="The timezone of dates: a name in the IANA database, such as Europe/Berlin. A time without an "
        "offset is UTC in any case.",
    ),
]


def provide_period(
    start: Annotated[str | None, _START] = None,
    end: Annotated[str | None, _END] = None,
    timezone: Timezone = "UTC",
) -> Period:
    """Return the period from `start` to `end` of the query. Raises Refused if they are malformed or reversed."""
    zone = _zone(timezone)
    faults: list[Fault] = []
    moments: dict[str, datetime] = {}
    for name, text in (("start", start), ("end", end)):
        if text is not None:
            try:
                moments[name] = parse_moment(text, zone, whole_day=name == "end")
            except ValueError as error:
                faults.append(Fault(name, str(error)))
    if faults:
        raise invalid(*faults)
    return _ordered(Period(moments.get("start"), moments.get("end")))


def _zone(timezone: str) -> ZoneInfo:
    try:
        return read_zone(timezone)
    except ValueError as error:
        raise invalid(Fault("timezone", str(error))) from None


def _ordered(period: Period) -> Period:
    if period.start and period.end and period.start > period.end:
        fault = Fault("start", f"{period.start.isoformat()} is after end, {period.end.isoformat()}: swap them")
        raise Refused(problems.REVERSED_PERIOD, f"{fault.field}: {fault.detail}", [fault])
    return period


def parse_moment(text: str, zone: ZoneInfo, *, whole_day: bool) -> datetime:
    """Parse a time, and return it in UTC. Raises ValueError with the expected form.

    A date means its midnight in the zone or, with `whole_day`, the last microsecond of the day.
    """
    day = _converted(text, date)
    if day is not None:
        return last_of_day(day, zone) if whole_day else midnight(day, zone)
    plus_restored = text.replace(" ", "+") if "T" in text.upper() else text  # a query has a space for +
    moment = _converted(plus_restored, datetime)
    if moment is not None:
        return in_utc(moment)
    seconds = _converted(text, float)
    if seconds is None:
        raise ValueError(f"{_EXPECTED}, got {text[:60]!r}")
    return to_datetime(from_number(seconds))


def _converted(text: str, kind: type[_Kind]) -> _Kind | None:
    """Convert the text to the type; return None if it does not match."""
    try:
        return msgspec.convert(text, kind, strict=kind is not float)
    except msgspec.ValidationError:
        return None


def midnight(day: date, zone: ZoneInfo) -> datetime:
    """Return the start of the day in the zone, in UTC. It is later than midnight if the clocks skip midnight."""
    try:
        return first_shown(datetime.combine(day, time()), zone)
    except OverflowError:
        return _FIRST if day.year == 1 else _LAST


def last_of_day(day: date, zone: ZoneInfo) -> datetime:
    """Return the last microsecond of the day in the zone, in UTC."""
    if day == date.max:
        return _LAST
    return midnight(day + _DAY, zone) - _MICROSECOND


def in_utc(moment: datetime) -> datetime:
    """Return the time in UTC. A time without an offset is UTC. Raises ValueError outside of years 1 to 9999."""
    if moment.tzinfo is None:
        return moment.replace(tzinfo=UTC)
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise ValueError(f"{moment.isoformat()} is outside of the years 1 to 9999 in UTC") from None
