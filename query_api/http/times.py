"""Moments and periods as requests have them.

A moment is RFC 3339 ("2026-01-31T12:00:00.25+01:00"), where a missing offset means UTC, or a number of
seconds since 1970. In a query a date alone is its midnight.
"""

from datetime import UTC, datetime
from typing import Annotated

import msgspec
from litestar.openapi.spec import OpenAPIFormat, OpenAPIType, Schema
from litestar.params import QueryParameter

from query_api.http import problems
from query_api.http.problems import Fault, Refused, invalid
from shared.models import SECOND, to_datetime

_EXPECTED = (
    'expected RFC 3339 such as "2026-01-31T12:00:00Z" (without an offset it is UTC), '
    "a date, or a number of seconds since 1970"
)


class Period(msgspec.Struct, frozen=True):
    """From start to end, both included; None leaves that side open."""

    start: datetime | None
    end: datetime | None


_FORMS = [
    Schema(type=OpenAPIType.STRING, format=OpenAPIFormat.DATE_TIME),
    Schema(type=OpenAPIType.STRING, format=OpenAPIFormat.DATE),
    Schema(type=OpenAPIType.NUMBER, minimum=-62_135_596_800, exclusive_maximum=253_402_300_800),
]
_START, _END = (
    QueryParameter(
        description=f"The period's {bound}, included: RFC 3339, where no offset means UTC; or a date, which "
        "is its midnight; or seconds since 1970. Left out, the period is open on this side.",
        schema_extra={"one_of": None, "any_of": _FORMS},
    )
    for bound in ("start", "end")
)


def provide_period(
    start: Annotated[str | None, _START] = None,
    end: Annotated[str | None, _END] = None,
) -> Period:
    """The period of the query's start and end. Raises Refused, where they cannot be read or are reversed."""
    faults: list[Fault] = []
    moments: dict[str, datetime] = {}
    for name, text in (("start", start), ("end", end)):
        if text is not None:
            try:
                moments[name] = parse_moment(text)
            except ValueError as error:
                faults.append(Fault(name, str(error)))
    if faults:
        raise invalid(*faults)
    period = Period(moments.get("start"), moments.get("end"))
    if period.start and period.end and period.start > period.end:
        fault = Fault("start", f"{period.start.isoformat()} is after end, {period.end.isoformat()}: exchange them")
        raise Refused(problems.REVERSED_PERIOD, f"{fault.field}: {fault.detail}", [fault])
    return period


def parse_moment(text: str) -> datetime:
    """The moment, in UTC. Raises ValueError, which says what would be right."""
    plus_restored = text.replace(" ", "+") if "T" in text.upper() else text  # a + in a query is a space
    for form in (plus_restored, f"{text}T00:00:00Z"):
        try:
            return in_utc(msgspec.convert(form, datetime))
        except msgspec.ValidationError:
            continue
    try:
        seconds = msgspec.convert(text, float, strict=False)
    except msgspec.ValidationError:
        raise ValueError(f"{_EXPECTED}, got {text[:60]!r}") from None
    return from_seconds(seconds)


def in_utc(moment: datetime) -> datetime:
    """The moment in UTC, which it also is if it has no offset. Raises ValueError outside years 1 to 9999."""
    if moment.tzinfo is None:
        return moment.replace(tzinfo=UTC)
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise ValueError(f"{moment.isoformat()} is outside of the years 1 to 9999 in UTC") from None


def from_seconds(seconds: float) -> datetime:
    """The moment so long after 1970, in UTC. Raises ValueError outside years 1 to 9999."""
    try:
        return to_datetime(round(seconds * SECOND))
    except (OverflowError, ValueError):  # ValueError: NaN
        raise ValueError(f"{seconds} seconds from 1970 is outside of the years 1 to 9999") from None
