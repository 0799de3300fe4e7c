"""A period of time, and its ends as fields of records."""

from datetime import datetime
from typing import Annotated

import msgspec

PeriodStart = Annotated[
    datetime | None, msgspec.Meta(description="The period's start, included; null: since the first reading.")
]
PeriodEnd = Annotated[
    datetime | None, msgspec.Meta(description="The period's end, included; null: to the last reading.")
]


class Period(msgspec.Struct, frozen=True):
    """The time from `start` to `end`, both included. None leaves that end open."""

    start: datetime | None
    end: datetime | None
