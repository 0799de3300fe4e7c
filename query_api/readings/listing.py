"""The handlers that list a device's readings, in pages or as one stream."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, LiteralString, cast

import msgspec
from litestar import Response, get
from litestar.datastructures import ResponseHeader
from litestar.di import NamedDependency
from litestar.openapi.spec import OpenAPIFormat, OpenAPIMediaType, OpenAPIResponse, OpenAPIType, Operation, Schema
from litestar.params import QueryParameter, SkipValidation
from litestar.response import Stream
from psycopg.rows import class_row

from query_api.access.rules import Permission
from query_api.calendar.period import Period
from query_api.calendar.zones import read_zone
from query_api.errors import Fault
from query_api.ids import MAX_ID, require_device
from query_api.readings.formats import negotiation as formats
from query_api.readings.formats import ranges
from query_api.readings.formats.exports import Exports, close_export
from query_api.readings.formats.format import StreamFormat
from query_api.readings.record import StoredReading
from query_api.readings.row_stream import Order
from query_api.web.answers import problems
from query_api.web.answers.problems import Refused, documented, invalid
from query_api.web.dependencies import Database, DeviceId, Slow
from query_api.web.requests import paging
from query_api.web.requests.bodies import JsonRequest
from query_api.web.requests.times import Timezone
from query_api.web.resource import Resource
from shared.event_loop.parts import fetched
from shared.postgres.connections import Connection
from shared.readings.extents import extent_of
from shared.readings.model import Microseconds, to_datetime, to_microseconds


class _ReadingsAfter(msgspec.Struct, frozen=True, array_like=True, tag="readings"):
    """The unique key of the last reading of a page, and the list that the page is of."""

    device_id: Annotated[int, msgspec.Meta(ge=0, le=MAX_ID)]
    order: Order
    recorded_at: Annotated[Microseconds, msgspec.Meta(ge=0, le=to_microseconds(datetime.max.replace(tzinfo=UTC)))]
    x: float
    y: float
    z: float


def _schema(form: StreamFormat) -> Schema:
    return Schema(
        type=OpenAPIType.STRING,
        format=None if form.is_text else OpenAPIFormat.BINARY,
        description=form.description,
    )


_FORMAT = QueryParameter(
    name="format",
    description="The format. It overrides Accept. A suffix of the path has the same effect: /stats/7.csv.",
    schema_extra={"type": OpenAPIType.STRING, "one_of": None, "enum": list(formats.BY_NAME)},
)


@dataclass
class _ListOperation(Operation):
    """Adds the streams to the documented response: Litestar documents one media type."""

    def __post_init__(self) -> None:
        assert self.responses is not None
        answer = self.responses["200"]
        assert isinstance(answer, OpenAPIResponse)
        assert answer.content is not None
        streams = {form.media_type: OpenAPIMediaType(schema=_schema(form)) for form in formats.STREAMS}
        answer.content |= streams
        self.responses["206"] = OpenAPIResponse("The part of a stream that the header Range names.", content=streams)


@get(
    "/{device_id:str}",
    permission=Permission.READ,
    summary="List a device's readings",
    response_description="The readings.",
    operation_class=_ListOperation,
    after_response=close_export,
    response_headers=[
        *paging.HEADERS,
        ResponseHeader(
            "Vary",
            value="",
            documentation_only=True,
            description="Accept, because the media type depends on it; Origin if CORS is configured.",
        ),
        ResponseHeader(
            "Content-Disposition",
            value="",
            documentation_only=True,
            description="The name of the file to save, such as device-7.csv.",
        ),
    ],
    responses=documented(
        problems.REVERSED_PERIOD,
        problems.BAD_CURSOR,
        problems.NOT_FOUND,
        problems.NOT_ACCEPTABLE,
        problems.NOT_INSTALLED,
        problems.RANGE_NOT_SATISFIABLE,
        problems.INVALID_VALUE,
    ),
)
async def list_readings(
    request: JsonRequest,
    device_id: DeviceId,
    slow_reads: Slow,
    exports: NamedDependency[SkipValidation[Exports]],
    period: NamedDependency[Period],
    limit: paging.Limit = 1000,
    cursor: paging.Cursor = None,
    order: Annotated[Order, QueryParameter(description="asc: oldest first; desc: newest first.")] = "asc",
    format_name: Annotated[str | None, _FORMAT] = None,
    timezone: Timezone = "UTC",
) -> Response[Sequence[StoredReading]]:
    """Return the readings of the period, or of all time, in pages.

    `Accept`, `format` or a suffix such as `/stats/7.csv` selects another format. The response is then one stream of all
    readings, or of at most `limit` readings. A stream has no cursor. For a stream of up to 32 MiB, HEAD returns its
    length, and Range selects a part of it.

    The times of a stream are in the `timezone`: with its offset in CSV and NDJSON, and in the type of the column in
    Arrow and Parquet. Those of JSON are in UTC.
    """
    form = formats.chosen(request, format_name)
    named = {"Content-Disposition": formats.disposition(device_id, form)}
    if isinstance(form, StreamFormat) and cursor is not None:
        raise invalid(Fault("cursor", "a stream has no pages: omit the cursor, or request JSON"))
    after = paging.decode(cursor, _ReadingsAfter, device_id=device_id, order=order)
    async with slow_reads.connection(request) as connection:
        await require_device(connection, device_id)
        if not isinstance(form, StreamFormat):
            found = await select(connection, device_id, period, order, after, limit + 1)
            page = paging.page(request, found, limit, lambda last: _key(last, order))
            return page if format_name is None else Response(page.content, headers={**page.headers, **named})
    at_most = limit if "limit" in request.query_params else None
    in_parts = ranges.is_asked_for(request)
    zone = None if timezone == "UTC" else read_zone(timezone)  # the period has refused a wrong name
    export = await exports.start(request, device_id, period, form, order, at_most, keeps_place=in_parts, zone=zone)
    if in_parts:
        part = await ranges.answer(request, export, form.media_type, named)
        return cast("Response[Sequence[StoredReading]]", part)
    stream = Stream(export.rows, media_type=form.media_type, headers=named)
    return cast("Response[Sequence[StoredReading]]", stream)  # _ListOperation documents it


@get(
    "/{device_id:str}/latest",
    permission=Permission.READ,
    summary="Get a device's latest reading",
    response_description="The reading.",
    responses=documented(problems.NOT_FOUND, problems.NO_READINGS, problems.INVALID_VALUE),
)
async def latest_reading(device_id: DeviceId, database: Database) -> StoredReading:
    """Return the reading with the latest timestamp, regardless of its time of receipt."""
    async with database.connection() as connection:
        await require_device(connection, device_id)
        found = await select(connection, device_id, Period(None, None), "desc", None, 1)
    if not found:
        raise Refused(problems.NO_READINGS, f"device {device_id} has no readings")
    return found[0]


# The lower bound occurs twice: the plain comparison prunes partitions, and the row comparison starts in the index
# directly after the cursor.
_ASCENDING = """
    SELECT id, device_id, x, y, z, recorded_at AS timestamp FROM readings
    WHERE device_id = %(device_id)s
      AND recorded_at >= greatest(%(start)s::timestamptz, %(at)s::timestamptz, '-infinity')
      AND recorded_at <= coalesce(%(end)s::timestamptz, 'infinity')
      AND (recorded_at, x, y, z) > (coalesce(%(at)s::timestamptz, '-infinity'), coalesce(%(x)s::float8, 0),
                                    coalesce(%(y)s::float8, 0), coalesce(%(z)s::float8, 0))
    ORDER BY recorded_at, x, y, z
    LIMIT %(limit)s
"""
_DESCENDING = """
    SELECT id, device_id, x, y, z, recorded_at AS timestamp FROM readings
    WHERE device_id = %(device_id)s
      AND recorded_at >= coalesce(%(start)s::timestamptz, '-infinity')
      AND recorded_at <= least(%(end)s::timestamptz, %(at)s::timestamptz, 'infinity')
      AND (recorded_at, x, y, z) < (coalesce(%(at)s::timestamptz, 'infinity'), coalesce(%(x)s::float8, 0),
                                    coalesce(%(y)s::float8, 0), coalesce(%(z)s::float8, 0))
    ORDER BY recorded_at DESC, x DESC, y DESC, z DESC
    LIMIT %(limit)s
"""
PAGES: dict[Order, LiteralString] = {"asc": _ASCENDING, "desc": _DESCENDING}


async def select(
    connection: Connection,
    device_id: int,
    period: Period,
    order: Order,
    after: _ReadingsAfter | None,
    limit: int,
) -> list[StoredReading]:
    """Return the device's readings of the period that follow the key, in order."""
    within = await known_part(connection, device_id, period)
    parameters = page_parameters(device_id, within, after, limit)
    async with connection.cursor(row_factory=class_row(StoredReading)) as cursor:
        await cursor.execute(PAGES[order], parameters, prepare=False)
        return await fetched(cursor)


async def known_part(connection: Connection, device_id: int, period: Period) -> Period:
    """Return the part of the period in which the device may have readings.

    A query within it is not prepared: a generic plan locks every month before it prunes.
    """
    return Period(*(await extent_of(connection, [device_id])).within(period.start, period.end))


def page_parameters(device_id: int, period: Period, after: _ReadingsAfter | None, limit: int) -> dict[str, object]:
    """Return the parameters of the queries in PAGES."""
    return {
        "device_id": device_id, "start": period.start, "end": period.end, "limit": limit,
        "at": to_datetime(after.recorded_at) if after else None,
        "x": after and after.x, "y": after and after.y, "z": after and after.z,
    }  # fmt: skip


def _key(reading: StoredReading, order: Order) -> _ReadingsAfter:
    recorded_at = to_microseconds(reading.timestamp)
    return _ReadingsAfter(reading.device_id, order, recorded_at, reading.x, reading.y, reading.z)


_BOUNDS = """
    SELECT (SELECT recorded_at FROM readings
            WHERE device_id = %(device_id)s
              AND recorded_at >= coalesce(%(start)s::timestamptz, '-infinity')
              AND recorded_at <= coalesce(%(end)s::timestamptz, 'infinity')
            ORDER BY recorded_at LIMIT 1),
           (SELECT recorded_at FROM readings
            WHERE device_id = %(device_id)s
              AND recorded_at >= coalesce(%(start)s::timestamptz, '-infinity')
              AND recorded_at <= coalesce(%(end)s::timestamptz, 'infinity')
            ORDER BY recorded_at DESC LIMIT 1)
"""


async def bounds(connection: Connection, device_id: int, period: Period) -> tuple[datetime, datetime] | None:
    """Return the times of the first and the last reading of the device in the period; None if it has none."""
    within = await known_part(connection, device_id, period)
    parameters = {"device_id": device_id, "start": within.start, "end": within.end}
    row = await (await connection.execute(_BOUNDS, parameters, prepare=False)).fetchone()
    assert row is not None, "a SELECT without FROM has one row"
    first, last = row
    return None if first is None else (first, last)


router = Resource("/stats", route_handlers=[list_readings, latest_reading], tags=["readings"])
