"""The stored reading of lists and devices."""

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


class StoredReading(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A stored reading."""

    id: Annotated[int, msgspec.Meta(description="Id of the reading.", examples=[1])]
    device_id: Annotated[int, msgspec.Meta(description="Id of the device.", examples=[1])]
    x: X
    y: Y
    z: Z
    timestamp: Annotated[datetime, msgspec.Meta(description="The time of the measurement, in UTC.")]
