"""Times in JSON have six fractional digits, and other values are unchanged."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, get_args, get_origin

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from litestar import Response
from litestar.routes import HTTPRoute
from msgspec import inspect

from query_api.calendar.json_times import encode, is_time
from query_api.readings.live.listeners import Dropped, Gap
from query_api.readings.plots.series import Line
from query_api.readings.record import StoredReading
from tests.application import application

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)
_SIX_DIGITS = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}(Z|[+-]\d\d:\d\d)").fullmatch


def answered() -> list[Any]:
    """Return the type of every response of the application, and of the events of live streams."""
    handlers = [h for route in application().routes if isinstance(route, HTTPRoute) for h in route.route_handlers]
    annotations = [handler.parsed_return_field.annotation for handler in handlers]
    return [StoredReading, Line, Gap, Dropped, *annotations]


def fields(kind: Any, seen: set[Any]) -> Iterator[tuple[str, Any]]:
    """Each member of the records in the type, at any depth, with its own type."""
    if isinstance(kind, inspect.StructType) and kind.cls not in seen:
        seen.add(kind.cls)
        for field in kind.fields:
            yield field.encode_name, field.type
            yield from fields(field.type, seen)
    for inner in (getattr(kind, "item_type", None), getattr(kind, "type", None), *getattr(kind, "types", ())):
        if inner is not None:
            yield from fields(inner, seen)


def kinds(kind: Any) -> set[type]:
    if isinstance(kind, inspect.Metadata):
        return kinds(kind.type)
    return {part for one in kind.types for part in kinds(one)} if isinstance(kind, inspect.UnionType) else {type(kind)}


def records() -> Iterator[tuple[str, Any]]:
    """The members of all records in responses."""
    seen: set[Any] = set()
    for annotation in answered():
        try:
            kind = inspect.type_info(unwrapped(annotation))
        except (TypeError, NameError):  # a file, a redirect
            continue
        yield from fields(kind, seen)


def unwrapped(annotation: Any) -> Any:
    """Return the type of the content of a Response."""
    return get_args(annotation)[0] if get_origin(annotation) is Response else annotation


def test_members_that_are_times_have_the_names_of_times_and_texts_do_not() -> None:
    found = dict.fromkeys(name for name, kind in records() if inspect.DateTimeType in kinds(kind))
    assert {"timestamp", "start", "end", "created_at", "next_tick", "since", "first_reading_at"} <= set(found)
    assert all(is_time(name) for name in found), found
    assert [name for name, kind in records() if is_time(name) and inspect.StrType in kinds(kind)] == []


@given(st.datetimes(timezones=st.sampled_from([UTC, timezone(timedelta(hours=-9, minutes=-30))])))
def test_every_time_has_six_digits_and_an_unchanged_value(moment: datetime) -> None:
    written = msgspec.json.decode(encode([{"timestamp": moment, "next_tick": moment}, moment.year]))[0]
    for text in written.values():
        assert _SIX_DIGITS(text)
        assert datetime.fromisoformat(text) == moment


@given(st.text() | st.sampled_from(['"timestamp":"2026-01-31T12:00:00Z"', "2026-01-31T12:00:00Z", '\\"end":"']))
def test_texts_are_unchanged(text: str) -> None:
    record = {"name": text, "key": "2026-01-31T12:00:00Z", "timestamp": NOON, text: "2026-01-31T12:00:00+01:00"}
    got = msgspec.json.decode(encode(record))
    expected = {**record, "timestamp": "2026-01-31T12:00:00.000000Z"}
    assert got == expected or is_time(text)
