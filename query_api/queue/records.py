"""Records of a queued analysis in responses: the request, its result and its callbacks."""

from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec
from psycopg.rows import dict_row

from query_api.access.rules import Principal
from query_api.calendar.period import PeriodEnd, PeriodStart
from query_api.ids import DeviceIdField, DeviceName, Id
from query_api.statistics.figures import Figures
from shared.postgres.connections import Connection

Status = Literal["queued", "running", "done", "failed", "cancelled"]
ENDED = ("done", "failed", "cancelled")


class AnalysisResult(msgspec.Struct, frozen=True, kw_only=True):
    """The result of a queued analysis."""

    id: Id
    request_id: Annotated[int, msgspec.Meta(description="Id of the request.", examples=[1])]
    device_id: DeviceIdField
    start: PeriodStart
    end: PeriodEnd
    x: Figures
    y: Figures
    z: Figures
    created_at: Annotated[datetime, msgspec.Meta(description="Time of the result.")]


class AnalysisCallback(msgspec.Struct, frozen=True, kw_only=True):
    """A callback at the end of the analysis."""

    url: Annotated[str, msgspec.Meta(description="URL of the callback.", examples=["https://example.org/analyses"])]
    status: Annotated[
        Literal["waiting", "delivered", "failed"],
        msgspec.Meta(
            description="waiting: for the end of the analysis or the next attempt; delivered: the receiver "
            "returned a 2xx; failed: every attempt failed."
        ),
    ]
    attempts: Annotated[int, msgspec.Meta(description="Number of attempts.", examples=[1])]
    last_error: Annotated[
        str | None,
        msgspec.Meta(
            description="Error of the latest failed attempt; null if none failed.", examples=["it responded with 500"]
        ),
    ]


class QueuedAnalysis(msgspec.Struct, frozen=True, kw_only=True):
    """A queued analysis with its status."""

    id: Id
    device_id: DeviceIdField
    device_name: DeviceName
    start: PeriodStart
    end: PeriodEnd
    figures: Annotated[
        list[str],
        msgspec.Meta(
            description="Figures besides min, max, sum, count and median.",
            examples=[["mean", "p95"]],
        ),
    ]
    status: Annotated[
        Status,
        msgspec.Meta(description="queued and running end as done, failed (after several attempts) or cancelled."),
    ]
    attempts: Annotated[int, msgspec.Meta(description="Number of attempts.", examples=[1])]
    last_error: Annotated[
        str | None, msgspec.Meta(description="Error of the latest failed attempt; null if none failed.")
    ]
    retry_at: Annotated[
        datetime | None,
        msgspec.Meta(description="Time of the next retry; null if none is pending."),
    ]
    created_at: Annotated[
        datetime, msgspec.Meta(description="Time at which it was queued, the last time if it was retried by a request.")
    ]
    started_at: Annotated[
        datetime | None, msgspec.Meta(description="Start of the latest attempt; null if there was none.")
    ]
    finished_at: Annotated[
        datetime | None, msgspec.Meta(description="Time at which it was done, failed or cancelled; null before.")
    ]
    result: Annotated[
        AnalysisResult | None,
        msgspec.Meta(description="The result; null if there is none yet, or it was deleted."),
    ]


class AnalysisRequest(QueuedAnalysis, frozen=True, kw_only=True):
    """A queued analysis with its status and callbacks."""

    callbacks: Annotated[
        list[AnalysisCallback],
        msgspec.Meta(
            description="Callbacks that are sent when the request finishes: one for each client that requested one. "
            "Only the key that set it and admins see it."
        ),
    ]


_FIND = "SELECT * FROM shown_analysis_requests WHERE id = %(id)s"


async def find_shown(connection: Connection, request_id: int, principal: Principal) -> AnalysisRequest | None:
    """Return the request as the principal may see it; None if it does not exist."""
    async with connection.cursor(row_factory=dict_row) as cursor:
        row = await (await cursor.execute(_FIND, {"id": request_id})).fetchone()
        return None if row is None else shown_to(principal, row)


def shown_to(principal: Principal, row: dict[str, Any]) -> AnalysisRequest:
    """Return the request of a row of shown_analysis_requests, with the callbacks that the principal may see."""
    callbacks = [callback for callback in row["callbacks"] if principal.owns(callback["owner"])]
    return msgspec.convert({**row, "callbacks": callbacks}, AnalysisRequest)
