"""A reading, as it is stored: what lists, streams and devices show."""

from datetime import datetime
from typing import Annotated

import msgspec

from shared.readings.rules import AXIS_LIMIT, AXIS_RULE


def _axis(name: str) -> msgspec.Meta:
    return msgspec.Meta(
        ge=-AXIS_LIMIT,
        le=AXIS_LIMIT,
        description=f"The {name} axis: {AXIS_RULE}.",
        extra={"takes": AXIS_RULE},
        examples=[1.5],
    )


X = Annotated[float, _axis("x")]
Y = Annotated[float, _axis("y")]
Z = Annotated[float, _axis("z")]


class StoredReading(msgspec.Struct, frozen=True, kw_only=True):
    """A reading, as it is stored."""

    id: Annotated[int, msgspec.Meta(description="The reading's number.", examples=[1])]
    device_id: Annotated[int, msgspec.Meta(description="The device's number.", examples=[1])]
    x: X
    y: Y
    z: Z
    timestamp: Annotated[datetime, msgspec.Meta(description="When the device measured, in UTC.")]
