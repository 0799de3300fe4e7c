"""A device, as it is registered and shown."""

from datetime import datetime
from typing import Annotated

import msgspec

from query_api.devices.tokens import ShownToken, ShownUsername
from query_api.readings.record import StoredReading
from query_api.readings.summaries import COUNTED, COUNTED_IN_ALL
from shared.readings.model import KEY_PATTERN

KEY_RULE = "1 to 128 characters, none of them a space, a control character, /, + or #"
NAME_RULE = "1 to 200 characters, none of them NUL, and not all of them spaces"
_Name = Annotated[
    str,
    msgspec.Meta(
        min_length=1,
        max_length=200,
        pattern=r"^[^\x00]*[^\s\x00][^\x00]*$",
        description=f"What people call the device: {NAME_RULE}.",
        extra={"takes": NAME_RULE},
        examples=["Boiler, north"],
    ),
]
_Key = Annotated[
    str,
    msgspec.Meta(
        pattern=KEY_PATTERN.replace(r"\Z", "$"),
        description=f"The device's level in its MQTT topic, devices/<key>/stats: {KEY_RULE}. No two "
        "devices have the same. Left out, it is the number.",
        extra={"takes": f"one level of a topic: {KEY_RULE}"},
        examples=["boiler-north"],
    ),
]


class NewDevice(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A device to be registered."""

    name: _Name
    key: _Key | None = None


class NewName(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What can be changed of a device."""

    name: _Name


class Device(msgspec.Struct, frozen=True, kw_only=True):
    """Whatever publishes readings."""

    id: Annotated[int, msgspec.Meta(description="Its number, which this API uses.", examples=[1])]
    key: Annotated[str, msgspec.Meta(description="Its level in its MQTT topic, devices/<key>/stats.", examples=["1"])]
    name: Annotated[str, msgspec.Meta(description="What people call it.", examples=["Boiler, north"])]
    created_at: Annotated[datetime, msgspec.Meta(description="When it was registered.")]
    readings: Annotated[
        int,
        msgspec.Meta(
            description=f"How many readings it has. It is exact up to {COUNTED:,}, and up to {COUNTED_IN_ALL:,} where "
            "one device is shown; above that it is an estimate, or a lower bound."
        ),
    ]
    readings_is_estimate: Annotated[
        bool, msgspec.Meta(description="Whether `readings` is an estimate, by the statistics of PostgreSQL.")
    ]
    readings_at_least: Annotated[
        bool,
        msgspec.Meta(
            description="Whether `readings` is a lower bound: the statistics do not know all readings until ANALYZE "
            "has run, which PostgreSQL does by itself."
        ),
    ]
    first_reading_at: Annotated[
        datetime | None, msgspec.Meta(description="The time of its first reading; null: it has none.")
    ]
    last_reading_at: Annotated[
        datetime | None, msgspec.Meta(description="The time of its latest reading; null: it has none.")
    ]
    latest_reading: Annotated[StoredReading | None, msgspec.Meta(description="Its latest reading; null: it has none.")]


class RegisteredDevice(Device, frozen=True, kw_only=True):
    """A device that was just registered, with what it shows to be let in."""

    token: ShownToken
    mqtt_username: ShownUsername
