"""Fields that several records have."""

from datetime import datetime
from typing import Annotated

import msgspec

Id = Annotated[int, msgspec.Meta(description="Its number.", examples=[1])]
DeviceNumber = Annotated[int, msgspec.Meta(description="The device's number.", examples=[1])]
PeriodStart = Annotated[
    datetime | None, msgspec.Meta(description="The period's start, included; null: since the first reading.")
]
PeriodEnd = Annotated[
    datetime | None, msgspec.Meta(description="The period's end, included; null: to the last reading.")
]
