"""Schedules as requests and answers have them."""

from datetime import datetime
from typing import Annotated

import msgspec
from litestar.openapi.spec import OpenAPIType, Schema
from msgspec import UNSET, UnsetType

from query_api.analyses.wanted import MAX_NAMES, NAME_PATTERN, RULE
from query_api.calendar import cron, sliding
from query_api.ids import DeviceIdField, Id
from query_api.queue.addresses import MAX_URL_LENGTH, URL_PATTERN

_CRON_RULE = "a cron expression of five fields, in at most 200 characters"
_CRON = msgspec.Meta(
    min_length=1,
    max_length=cron.MAX_LENGTH,
    description="When it ticks, in crontab's five fields: minute, hour, day of month, month, day of week (0 and 7 are "
    "Sunday); or @hourly, @daily, @weekly, @monthly or @yearly. If both days are restricted, either is enough. "
    "Ticks in the hour that the clocks skip come at its end, as one; those in the hour that they show twice come the "
    "first time, or with * as the hour both times.",
    extra={"takes": _CRON_RULE},
    extra_json_schema={"extra": {"format": "cron", "pattern": cron.FIVE_FIELDS}},
    examples=["0 2 * * *"],
)
_TIMEZONE = msgspec.Meta(
    max_length=64,
    description="The IANA time zone of the expression, and of the days of the period.",
    extra={"takes": 'a time zone such as "Europe/Berlin"'},
    extra_json_schema={"extra": {"format": "timezone"}},
    examples=["Europe/Berlin"],
)
_PERIOD = msgspec.Meta(
    max_length=sliding.MAX_LENGTH,
    description="How long a time each tick looks at: an ISO 8601 duration in whole numbers, at most a century. "
    "null: all time.",
    extra={"takes": 'an ISO 8601 duration such as "P1D", or null'},
    extra_json_schema={"extra": {"format": "duration"}},
    examples=["P1D"],
)
_ALIGN = msgspec.Meta(
    description="true: up to the end of the last whole unit before the tick, of the smallest that the period names: "
    "P1D is the day before, P1M the month before. false: up to the tick. The boundary itself is in the following "
    "period.",
    extra={"takes": "true or false"},
    examples=[True],
)
_FIGURES_RULE = f"at most {MAX_NAMES} of {RULE}"
_FIGURES = msgspec.Meta(
    max_length=MAX_NAMES,
    description=f"The figures besides the five that every analysis has: {_FIGURES_RULE}.",
    extra={"takes": f"an array of {_FIGURES_RULE}"},
    extra_json_schema={"extra": {"items": Schema(type=OpenAPIType.STRING, pattern=NAME_PATTERN)}},
    examples=[["mean", "p95"]],
)
_Figure = Annotated[str, msgspec.Meta(pattern=NAME_PATTERN)]
_CALLBACK = msgspec.Meta(
    max_length=MAX_URL_LENGTH,
    description="An http or https address that is called with each request when it has ended, as that of a queued "
    "analysis is; null: none is. It is shown to the key that gave it, and to admins; to others as null.",
    extra={"takes": f"an http or https address in at most {MAX_URL_LENGTH:,} characters, or null"},
    extra_json_schema={"extra": {"pattern": URL_PATTERN}},
    examples=["https://example.org/analyses"],
)
_NAME_RULE = "at most 200 characters, none of them NUL"
_NAME = msgspec.Meta(
    max_length=200,
    pattern=r"^[^\x00]*$",
    description=f"What people call it: {_NAME_RULE}; null: nothing.",
    extra={"takes": _NAME_RULE},
    examples=["The day before, every night"],
)
_PAUSED = msgspec.Meta(
    description="Whether it is paused: then it does not tick, and what it misses is not made up for.",
    extra={"takes": "true or false"},
    examples=[False],
)


class NewSchedule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A schedule to be made."""

    device_id: Annotated[
        int,
        msgspec.Meta(
            description="The device's number, a whole number.", extra={"takes": "a whole number"}, examples=[1]
        ),
    ]
    cron: Annotated[str, _CRON]
    timezone: Annotated[str, _TIMEZONE] = "UTC"
    period: Annotated[str, _PERIOD] | None
    align: Annotated[bool, _ALIGN] = True
    figures: Annotated[list[_Figure], _FIGURES] = []
    callback: Annotated[str, _CALLBACK] | None = None
    name: Annotated[str, _NAME] | None = None


class ScheduleChanges(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is to be changed of a schedule; what is left out stays."""

    paused: Annotated[bool, _PAUSED] | UnsetType = UNSET
    cron: Annotated[str, _CRON] | UnsetType = UNSET
    timezone: Annotated[str, _TIMEZONE] | UnsetType = UNSET
    period: Annotated[str, _PERIOD] | UnsetType | None = UNSET
    align: Annotated[bool, _ALIGN] | UnsetType = UNSET
    figures: Annotated[list[_Figure], _FIGURES] | UnsetType = UNSET
    callback: Annotated[str, _CALLBACK] | UnsetType | None = UNSET
    name: Annotated[str, _NAME] | UnsetType | None = UNSET


class Schedule(msgspec.Struct, frozen=True, kw_only=True):
    """An analysis that comes round again."""

    id: Id
    device_id: DeviceIdField
    cron: Annotated[str, _CRON]
    timezone: Annotated[str, _TIMEZONE]
    period: Annotated[str, _PERIOD] | None
    align: Annotated[bool, _ALIGN]
    figures: Annotated[list[str], _FIGURES]
    callback: Annotated[str, _CALLBACK] | None
    name: Annotated[str, _NAME] | None
    paused: Annotated[bool, _PAUSED]
    next_tick: Annotated[datetime | None, msgspec.Meta(description="When it ticks next; null: it is paused.")]
    last_tick: Annotated[datetime | None, msgspec.Meta(description="When it last ticked; null: it has not.")]
    latest_request: Annotated[
        int | None,
        msgspec.Meta(
            description="The number of the request that its last tick made: see /stats/analysis/requests/{id}; "
            "null: there is none.",
            examples=[1],
        ),
    ]
    last_error: Annotated[
        str | None,
        msgspec.Meta(description="Why a worker that could not make its tick has paused it; null: none has."),
    ]
    created_at: Annotated[datetime, msgspec.Meta(description="When it was made.")]
