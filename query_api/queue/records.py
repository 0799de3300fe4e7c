"""Queued analyses as they are shown: the request, what it found, and who is called when it has ended."""

from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec
from psycopg.rows import dict_row

from query_api.access.rules import Principal
from query_api.calendar.period import PeriodEnd, PeriodStart
from query_api.ids import DeviceIdField, Id
from query_api.statistics.figures import Figures
from shared.postgres.connections import Connection

Status = Literal["queued", "running", "done", "failed", "cancelled"]
ENDED = ("done", "failed", "cancelled")


class AnalysisResult(msgspec.Struct, frozen=True, kw_only=True):
    """What a queued analysis found."""

    id: Id
    request_id: Annotated[int, msgspec.Meta(description="The number of the request that asked for it.", examples=[1])]
    device_id: DeviceIdField
    start: PeriodStart
    end: PeriodEnd
    x: Figures
    y: Figures
    z: Figures
    created_at: Annotated[datetime, msgspec.Meta(description="When it was found.")]


class AnalysisCallback(msgspec.Struct, frozen=True, kw_only=True):
    """An address that is called when the analysis has ended."""

    url: Annotated[str, msgspec.Meta(description="The address.", examples=["https://example.org/analyses"])]
    status: Annotated[
        Literal["waiting", "delivered", "failed"],
        msgspec.Meta(
            description="waiting: for the end of the analysis, or for its next attempt; delivered: it answered "
            "with a 2xx; failed: it did not, in all of its attempts."
        ),
    ]
    attempts: Annotated[int, msgspec.Meta(description="How often it has been called.", examples=[1])]
    last_error: Annotated[
        str | None,
        msgspec.Meta(
            description="Why the latest attempt that failed did; null: none has.", examples=["it answered 500"]
        ),
    ]


class QueuedAnalysis(msgspec.Struct, frozen=True, kw_only=True):
    """A queued analysis, and how far it is."""

    id: Id
    device_id: DeviceIdField
    start: PeriodStart
    end: PeriodEnd
    figures: Annotated[
        list[str],
        msgspec.Meta(
            description="The figures that it finds besides min, max, sum, count and median.",
            examples=[["mean", "p95"]],
        ),
    ]
    status: Annotated[
        Status,
        msgspec.Meta(description="queued and running lead to done, failed (after several attempts) or cancelled."),
    ]
    attempts: Annotated[int, msgspec.Meta(description="How often a worker has begun it.", examples=[1])]
    last_error: Annotated[
        str | None, msgspec.Meta(description="Why the latest attempt that failed did; null: none has.")
    ]
    retry_at: Annotated[
        datetime | None,
        msgspec.Meta(description="After a failure: when it will be tried again; null: it waits for no such moment."),
    ]
    created_at: Annotated[datetime, msgspec.Meta(description="When it was queued.")]
    started_at: Annotated[datetime | None, msgspec.Meta(description="When the latest attempt began; null: none has.")]
    finished_at: Annotated[
        datetime | None, msgspec.Meta(description="When it was done, failed or cancelled; null: not yet.")
    ]
    result: Annotated[
        AnalysisResult | None,
        msgspec.Meta(description="What it found; null: nothing yet, or its result was deleted."),
    ]


class AnalysisRequest(QueuedAnalysis, frozen=True, kw_only=True):
    """A queued analysis, how far it is, and who is called when it has ended."""

    callbacks: Annotated[
        list[AnalysisCallback],
        msgspec.Meta(
            description="The addresses that are called when it has ended; several, if several asked for it. Each is "
            "shown to the key that gave it, and to admins."
        ),
    ]


_FIND = "SELECT * FROM shown_analysis_requests WHERE id = %(id)s"


async def find_shown(connection: Connection, request_id: int, principal: Principal) -> AnalysisRequest | None:
    """The request as the principal may see it, None where there is none."""
    async with connection.cursor(row_factory=dict_row) as cursor:
        row = await (await cursor.execute(_FIND, {"id": request_id})).fetchone()
        return None if row is None else shown_to(principal, row)


def shown_to(principal: Principal, row: dict[str, Any]) -> AnalysisRequest:
    """The request of a row of shown_analysis_requests, with those of its callbacks that the principal may see."""
    callbacks = [callback for callback in row["callbacks"] if principal.owns(callback["owner"])]
    return msgspec.convert({**row, "callbacks": callbacks}, AnalysisRequest)
