"""Readings: stored over HTTP, and read in pages or as one stream."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Literal, LiteralString, cast

import msgspec
from litestar import MediaType, Response, get, post
from litestar.di import NamedDependency
from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import (
    OpenAPIMediaType,
    OpenAPIResponse,
    OpenAPIType,
    Operation,
    RequestBody,
    Schema,
)  # fmt: skip
from litestar.params import BodyKwarg, QueryParameter, SkipValidation
from litestar.response import Stream
from litestar.status_codes import HTTP_200_OK, HTTP_201_CREATED
from psycopg.rows import class_row

from query_api import paging, problems
from query_api.bodies import JsonRequest
from query_api.devices import MAX_ID, DeviceId, find
from query_api.exports import CSV, NDJSON, Exports, close_export
from query_api.intake import MAX_READINGS, Intake, NewReading, Submission, X, Y, Z
from query_api.problems import documented
from query_api.resource import Resource
from query_api.state import Database
from query_api.times import Period
from shared.database import Connection
from shared.models import Microseconds, to_datetime, to_microseconds

Order = Literal["asc", "desc"]


class StoredReading(msgspec.Struct, frozen=True, kw_only=True):
    """A reading, as it is stored."""

    id: Annotated[int, msgspec.Meta(description="The reading's number.", examples=[1])]
    device_id: Annotated[int, msgspec.Meta(description="The device's number.", examples=[1])]
    x: X
    y: Y
    z: Z
    timestamp: Annotated[datetime, msgspec.Meta(description="When the device measured, in UTC.")]


@dataclass
class _SubmitOperation(Operation):
    """Documents the array's bounds, which Litestar does not find inside of a union."""

    def __post_init__(self) -> None:
        assert isinstance(self.request_body, RequestBody)
        body = self.request_body.content[MediaType.JSON].schema
        assert isinstance(body, Schema)
        assert body.one_of is not None
        array = body.one_of[1]
        assert isinstance(array, Schema)
        array.min_items, array.max_items = 1, MAX_READINGS


@post(
    "/",
    operation_class=_SubmitOperation,
    summary="Store a reading, or several",
    response_description="Stored.",
    responses={
        HTTP_200_OK: ResponseSpec(
            StoredReading | list[StoredReading],
            generate_examples=False,
            description="All of it was there already; each has the id of the first.",
        ),
        **documented(
            problems.UNKNOWN_DEVICE,
            problems.TOO_LARGE,
            problems.UNSUPPORTED_MEDIA_TYPE,
            problems.INVALID_VALUE,
        ),
    },
)
async def create_readings(
    data: Annotated[
        NewReading | Annotated[list[NewReading], msgspec.Meta(min_length=1, max_length=MAX_READINGS)],
        BodyKwarg(description=f"One reading, or an array of 1 to {MAX_READINGS:,}: all are stored, or none."),
    ],
    database: Database,
    intake: NamedDependency[SkipValidation[Intake]],
) -> Response[StoredReading | list[StoredReading]]:
    """Answers a reading with a reading and an array with an array, in its order.

    A reading that was there already (the same device, time and values) is not stored again, and has the id of
    the first. If all of them were, the status is 200.
    """
    given = Submission(data, True) if isinstance(data, list) else Submission([data], False)
    async with database.connection() as connection:
        ids, readings, counts = await intake.take(connection, given)
    answer = [
        StoredReading(id=number, device_id=r.device_id, x=r.x, y=r.y, z=r.z, timestamp=to_datetime(r.recorded_at))
        for number, r in zip(ids, readings, strict=True)
    ]
    status = HTTP_201_CREATED if counts.stored else HTTP_200_OK
    return Response(answer if given.is_array else answer[0], status_code=status)


class _ReadingsAfter(msgspec.Struct, frozen=True, array_like=True, tag="readings"):
    """The unique key of a reading, and the list it ends a page of."""

    device_id: Annotated[int, msgspec.Meta(ge=0, le=MAX_ID)]
    order: Order
    recorded_at: Annotated[Microseconds, msgspec.Meta(ge=0, le=to_microseconds(datetime.max.replace(tzinfo=UTC)))]
    x: float
    y: float
    z: float


_STREAMED = {
    CSV: "A header line, then a line for each reading.",
    NDJSON: "A line of JSON for each reading.",
}


@dataclass
class _ListOperation(Operation):
    """Adds the streams to the documented answer, which Litestar has for one media type only."""

    def __post_init__(self) -> None:
        assert self.responses is not None
        answer = self.responses["200"]
        assert isinstance(answer, OpenAPIResponse)
        assert answer.content is not None
        for media_type, description in _STREAMED.items():
            schema = Schema(type=OpenAPIType.STRING, description=description)
            answer.content[media_type] = OpenAPIMediaType(schema=schema)


@get(
    "/{device_id:str}",
    summary="Read a device's readings",
    operation_class=_ListOperation,
    after_response=close_export,
    response_headers=paging.HEADERS,
    responses=documented(problems.REVERSED_PERIOD, problems.BAD_CURSOR, problems.NOT_FOUND, problems.INVALID_VALUE),
)
async def list_readings(
    request: JsonRequest,
    device_id: DeviceId,
    database: Database,
    exports: NamedDependency[SkipValidation[Exports]],
    period: NamedDependency[Period],
    limit: paging.Limit = 1000,
    cursor: paging.Cursor = None,
    order: Annotated[Order, QueryParameter(description="asc: the oldest first; desc: the newest first.")] = "asc",
) -> Response[Sequence[StoredReading]]:
    """Those of the period, or of all time, in pages.

    With `Accept: text/csv` or `Accept: application/x-ndjson` all of them come as one stream; limit and cursor
    are then without effect.
    """
    after = paging.decode(cursor, _ReadingsAfter)
    if after is not None and (after.device_id, after.order) != (device_id, order):
        raise paging.foreign()
    async with database.connection() as connection:
        await find(connection, device_id)
        media_type = request.accept.best_match(["application/json", *_STREAMED])
        if media_type not in _STREAMED:
            found = await select(connection, device_id, period, order, after, limit + 1)
            shown = found[:limit]
            last = _key(shown[-1], order) if len(found) > limit else None
            return paging.page(request, shown, last)
    rows = await exports.start(request, device_id, period, media_type, order)
    stream = Stream(rows, media_type=media_type)
    return cast("Response[Sequence[StoredReading]]", stream)  # _ListOperation documents it


# The lower bound stands twice: the plain comparison lets whole partitions go, the row's starts in the index
# right behind the cursor.
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
    """The device's readings in the period, in order, those that come after the key."""
    parameters = page_parameters(device_id, period, after, limit)
    async with connection.cursor(row_factory=class_row(StoredReading)) as cursor:
        await cursor.execute(PAGES[order], parameters)
        return await cursor.fetchall()


def page_parameters(device_id: int, period: Period, after: _ReadingsAfter | None, limit: int) -> dict[str, object]:
    """Of the queries in PAGES."""
    return {
        "device_id": device_id, "start": period.start, "end": period.end, "limit": limit,
        "at": to_datetime(after.recorded_at) if after else None,
        "x": after and after.x, "y": after and after.y, "z": after and after.z,
    }  # fmt: skip


def _key(reading: StoredReading, order: Order) -> _ReadingsAfter:
    recorded_at = to_microseconds(reading.timestamp)
    return _ReadingsAfter(reading.device_id, order, recorded_at, reading.x, reading.y, reading.z)


router = Resource("/stats", route_handlers=[create_readings, list_readings], tags=["readings"])
