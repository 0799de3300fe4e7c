"""Records of a device in requests and responses."""

from datetime import datetime
from typing import Annotated

import msgspec

from query_api.devices.activity import LAST_READINGS, State
from query_api.devices.keys import MqttPublishing
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
        description=f"Display name: {NAME_RULE}.",
        extra={"takes": NAME_RULE},
        examples=["Boiler, north"],
    ),
]
_Key = Annotated[
    str,
    msgspec.Meta(
        pattern=KEY_PATTERN.replace(r"\Z", "$"),
        description=f"The device's level in its MQTT topic, devices/<key>/stats: {KEY_RULE}. It is unique. "
        "Default: the id.",
        extra={"takes": f"one level of a topic: {KEY_RULE}"},
        examples=["boiler-north"],
    ),
]


class NewDevice(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A device to register."""

    name: _Name
    key: _Key | None = None


class NewName(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Changes of a device."""

    name: _Name


class Device(msgspec.Struct, frozen=True, kw_only=True):
    """A device that publishes readings."""

    id: Annotated[int, msgspec.Meta(description="Id of the device.", examples=[1])]
    key: Annotated[str, msgspec.Meta(description="Level in its MQTT topic, devices/<key>/stats.", examples=["1"])]
    name: Annotated[str, msgspec.Meta(description="Display name.", examples=["Boiler, north"])]
    created_at: Annotated[datetime, msgspec.Meta(description="Time of registration.")]
    readings: Annotated[
        int,
        msgspec.Meta(
            description=f"Number of readings. Sealed readings are counted exactly. Of the others it is exact up to "
            f"{COUNTED:,}, or up to {COUNTED_IN_ALL:,} for a single device; above that it is an estimate or a lower "
            "bound."
        ),
    ]
    readings_is_estimate: Annotated[
        bool, msgspec.Meta(description="Whether `readings` is an estimate from the statistics of PostgreSQL.")
    ]
    readings_at_least: Annotated[
        bool,
        msgspec.Meta(
            description="Whether `readings` is a lower bound: the statistics miss readings until PostgreSQL runs "
            "its next automatic ANALYZE."
        ),
    ]
    first_reading_at: Annotated[
        datetime | None, msgspec.Meta(description="Time of the first reading; null if there is none.")
    ]
    last_reading_at: Annotated[
        datetime | None, msgspec.Meta(description="Time of the latest reading; null if there is none.")
    ]
    latest_reading: Annotated[
        StoredReading | None, msgspec.Meta(description="The latest reading; null if there is none.")
    ]
    state: Annotated[
        State,
        msgspec.Meta(
            description="live: the last reading is at most two expected intervals old. late: at most ten. silent: "
            "older. never: there is no reading. An interval below 5 seconds counts as 5 seconds."
        ),
    ]
    expected_interval: Annotated[
        float | None,
        msgspec.Meta(
            description=f"The usual number of seconds between readings: the median of the last {LAST_READINGS}. Null "
            "if there are none with different times, or if no worker has looked at the device yet.",
            examples=[60.0],
        ),
    ]
    rate: Annotated[
        float,
        msgspec.Meta(
            description=f"Readings per second, by the last {LAST_READINGS}. 0 for a device that is silent, or has "
            "fewer than two readings.",
            examples=[0.5],
        ),
    ]


class RegisteredDevice(Device, frozen=True, kw_only=True):
    """A device that was just registered, with its credentials."""

    token: ShownToken
    mqtt_username: ShownUsername
    mqtt: MqttPublishing
