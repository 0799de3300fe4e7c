"""The router of schedules."""

from query_api.analyses.schedules.handlers import (
    change_schedule,
    create_schedule,
    delete_schedule,
    list_schedules,
    show_schedule,
)
from query_api.analyses.schedules.preview import preview_schedule
from query_api.analyses.schedules.ticks import list_ticks
from query_api.web.resource import Resource

router = Resource(
    "/stats/analysis/schedules",
    route_handlers=[
        create_schedule, list_schedules, preview_schedule, show_schedule, change_schedule, delete_schedule, list_ticks,
    ],
    tags=["schedules"],
)  # fmt: skip
