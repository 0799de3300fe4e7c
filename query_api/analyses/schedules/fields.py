"""Records of a schedule in requests and responses."""

from datetime import datetime
from typing import Annotated

import msgspec
from litestar.openapi.spec import OpenAPIType, Schema
from msgspec import UNSET, UnsetType

from query_api.analyses.wanted import MAX_NAMES, NAME_PATTERN, RULE
from query_api.calendar import cron, durations
from query_api.calendar.period import PeriodEnd, PeriodStart
from query_api.ids import DeviceIdField, DeviceName, Id
from query_api.queue.addresses import MAX_URL_LENGTH, URL_PATTERN
from query_api.queue.records import Status
from query_api.statistics.figures import Figures

_CRON_RULE = "a cron expression of five fields, in at most 200 characters"
_CRON = msgspec.Meta(
    min_length=1,
    max_length=cron.MAX_LENGTH,
    description="Cron expression of five fields: minute, hour, day of month, month, day of week (0 and 7 are Sunday); "
    "or @hourly, @daily, @weekly, @monthly or @yearly. If both day fields are restricted, either may match. Ticks in "
    "an hour that a clock change skips run once at its end. Ticks in a repeated hour run the first time, or both times "
    "if the hour is *.",
    extra={"takes": _CRON_RULE},
    extra_json_schema={"extra": {"format": "cron", "pattern": cron.FIVE_FIELDS}},
    examples=["0 2 * * *"],
)
_TIMEZONE = msgspec.Meta(
    max_length=64,
    description="IANA time zone of the expression and of the days of the period.",
    extra={"takes": 'a time zone such as "Europe/Berlin"'},
    extra_json_schema={"extra": {"format": "timezone"}},
    examples=["Europe/Berlin"],
)
_PERIOD = msgspec.Meta(
    max_length=durations.MAX_LENGTH,
    description="Length of the period: an ISO 8601 duration in whole numbers, at most a century. null: all time.",
    extra={"takes": 'an ISO 8601 duration such as "P1D", or null'},
    extra_json_schema={"extra": {"format": "duration"}},
    examples=["P1D"],
)
_ALIGN = msgspec.Meta(
    description="true: the period ends with the last whole unit before the tick, where the unit is the smallest in "
    "`period`: P1D is the previous day, P1M the previous month. false: it ends at the tick. The boundary belongs to "
    "the next period.",
    extra={"takes": "true or false"},
    examples=[True],
)
_FIGURES_RULE = f"at most {MAX_NAMES} of {RULE}"
_FIGURES = msgspec.Meta(
    max_length=MAX_NAMES,
    description=f"Figures besides min, max, sum, count and median: {_FIGURES_RULE}.",
    extra={"takes": f"an array of {_FIGURES_RULE}"},
    extra_json_schema={"extra": {"items": Schema(type=OpenAPIType.STRING, pattern=NAME_PATTERN)}},
    examples=[["mean", "p95"]],
)
_Figure = Annotated[str, msgspec.Meta(pattern=NAME_PATTERN)]
_CALLBACK = msgspec.Meta(
    max_length=MAX_URL_LENGTH,
    description="An http or https URL that receives each finished request, as for a queued analysis; null "
    "if none. Only the key that set it and admins see it; others see null.",
    extra={"takes": f"an http or https address in at most {MAX_URL_LENGTH:,} characters, or null"},
    extra_json_schema={"extra": {"pattern": URL_PATTERN}},
    examples=["https://example.org/analyses"],
)
_NAME_RULE = "at most 200 characters, none of them NUL"
_NAME = msgspec.Meta(
    max_length=200,
    pattern=r"^[^\x00]*$",
    description=f"Display name: {_NAME_RULE}; null if none.",
    extra={"takes": _NAME_RULE},
    examples=["The day before, every night"],
)
_PAUSED = msgspec.Meta(
    description="Whether the schedule is paused. Ticks missed during a pause are not run.",
    extra={"takes": "true or false"},
    examples=[False],
)
_DESCRIPTION = msgspec.Meta(
    description="The cron expression in words, in the time zone of the schedule.",
    examples=["At 02:00 every day"],
)


class NewSchedule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A schedule to create."""

    device_id: Annotated[
        int,
        msgspec.Meta(description="Id of the device.", extra={"takes": "a whole number"}, examples=[1]),
    ]
    cron: Annotated[str, _CRON]
    timezone: Annotated[str, _TIMEZONE] = "UTC"
    period: Annotated[str, _PERIOD] | None
    align: Annotated[bool, _ALIGN] = True
    figures: Annotated[list[_Figure], _FIGURES] = []
    callback: Annotated[str, _CALLBACK] | None = None
    name: Annotated[str, _NAME] | None = None


class ScheduleChanges(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Changes of a schedule. Fields left out keep their values."""

    paused: Annotated[bool, _PAUSED] | UnsetType = UNSET
    cron: Annotated[str, _CRON] | UnsetType = UNSET
    timezone: Annotated[str, _TIMEZONE] | UnsetType = UNSET
    period: Annotated[str, _PERIOD] | UnsetType | None = UNSET
    align: Annotated[bool, _ALIGN] | UnsetType = UNSET
    figures: Annotated[list[_Figure], _FIGURES] | UnsetType = UNSET
    callback: Annotated[str, _CALLBACK] | UnsetType | None = UNSET
    name: Annotated[str, _NAME] | UnsetType | None = UNSET


class PlannedTimes(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The fields of a schedule that define its ticks and their periods."""

    cron: Annotated[str, _CRON]
    timezone: Annotated[str, _TIMEZONE]
    period: Annotated[str, _PERIOD] | None
    align: Annotated[bool, _ALIGN]

    @property
    def figures(self) -> list[str]:
        """None of them: they do not matter for the times."""
        return []


class PlannedTick(msgspec.Struct, frozen=True, kw_only=True):
    """A tick to come."""

    tick: Annotated[datetime, msgspec.Meta(description="The time.")]
    start: PeriodStart
    end: PeriodEnd


class SchedulePreview(msgspec.Struct, frozen=True, kw_only=True):
    """The ticks that a schedule would have."""

    description: Annotated[str, _DESCRIPTION]
    ticks: Annotated[list[PlannedTick], msgspec.Meta(description="The next five ticks, with the period of each.")]


class ScheduleTick(msgspec.Struct, frozen=True, kw_only=True):
    """A tick of a schedule, and what became of its analysis."""

    tick: Annotated[datetime, msgspec.Meta(description="The time.")]
    request_id: Annotated[
        int | None,
        msgspec.Meta(
            description="Id of its request, for /stats/analysis/requests/{id}; null if it was deleted.", examples=[1]
        ),
    ]
    status: Annotated[Status | None, msgspec.Meta(description="Status of the request; null if it was deleted.")]
    last_error: Annotated[
        str | None, msgspec.Meta(description="Error of the latest failed attempt; null if none failed.")
    ]
    start: PeriodStart
    end: PeriodEnd
    x: Annotated[Figures | None, msgspec.Meta(description="The figures of x; null if there is no result.")]
    y: Annotated[Figures | None, msgspec.Meta(description="The figures of y; null if there is no result.")]
    z: Annotated[Figures | None, msgspec.Meta(description="The figures of z; null if there is no result.")]


class Schedule(msgspec.Struct, frozen=True, kw_only=True):
    """A recurring analysis."""

    id: Id
    device_id: DeviceIdField
    device_name: DeviceName
    cron: Annotated[str, _CRON]
    description: Annotated[
        str | None,
        msgspec.Meta(
            description="The cron expression in words, in the time zone of the schedule; null if it is not valid.",
            examples=["At 02:00 every day"],
        ),
    ]
    timezone: Annotated[str, _TIMEZONE]
    period: Annotated[str, _PERIOD] | None
    align: Annotated[bool, _ALIGN]
    figures: Annotated[list[str], _FIGURES]
    callback: Annotated[str, _CALLBACK] | None
    name: Annotated[str, _NAME] | None
    paused: Annotated[bool, _PAUSED]
    next_tick: Annotated[datetime | None, msgspec.Meta(description="Time of the next tick; null if paused.")]
    last_tick: Annotated[datetime | None, msgspec.Meta(description="Time of the last tick; null if there was none.")]
    latest_request: Annotated[
        int | None,
        msgspec.Meta(
            description="Id of the request that the last tick queued, for /stats/analysis/requests/{id}; null if none.",
            examples=[1],
        ),
    ]
    latest_status: Annotated[
        Status | None, msgspec.Meta(description="Status of the request of the last tick; null if there is none.")
    ]
    last_error: Annotated[
        str | None,
        msgspec.Meta(description="Why a worker paused the schedule after a failed tick; null if none did."),
    ]
    created_at: Annotated[datetime, msgspec.Meta(description="Time of creation.")]
