"""The probe: an empty message to a topic of the ingestor's subscription (ADR 35).

It is sent over its own connection, because a broker may close the connection of a forbidden publish, and mochi confuses
the packet id of a PUBLISH with that of a message that it has delivered.
"""

from enum import Enum

import aiomqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from shared.broker.client import mqtt_client
from shared.errors import SettingsError
from shared.settings import MqttAddress

LIFETIME_S = 60
"""The broker drops the probe if a subscriber is offline for longer."""


class Sent(Enum):
    """The broker's answer to the probe, from its PUBACK."""

    TAKEN = "taken"
    UNMATCHED = "no subscription matches"


class CannotProbe(Exception):
    """A probe was not sent or is inconclusive; the message has the reason."""


class Forbidden(CannotProbe):
    """The broker refuses the probe."""


async def send_probe(address: MqttAddress, topic: str) -> Sent:
    """Publish an empty message at QoS 1. Raises CannotProbe or Forbidden if the broker does not accept it."""
    properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
    properties.MessageExpiryInterval = LIFETIME_S
    try:
        async with mqtt_client(address, "probe") as client:
            await client.publish(topic, b"", qos=1, properties=properties)
            refused, unmatched = client.refused, client.unmatched
    except (aiomqtt.MqttError, SettingsError) as error:
        raise CannotProbe(f"a message to {topic} could not be published ({error})") from error
    if refused is not None:
        raise Forbidden(
            f"the broker refuses a message to {topic} ({refused}): allow it to the user of DEVICESTAT_MQTT_URL"
        )
    return Sent.UNMATCHED if unmatched else Sent.TAKEN
