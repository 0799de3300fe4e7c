"""One empty message to a topic of the ingestor's subscription, over a connection of its own (ADR 35).

Its own connection, since a broker may answer a forbidden publish by closing the connection, and mochi takes the packet
id of a PUBLISH for that of a message which it has delivered.
"""

from enum import Enum

import aiomqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from shared.broker.client import mqtt_client
from shared.errors import SettingsError
from shared.settings import MqttAddress

LIFETIME_S = 60
"""The broker drops the message where a subscriber is away for longer."""


class Sent(Enum):
    """What the broker's PUBACK says of the probe."""

    TAKEN = "taken"
    UNMATCHED = "no subscription matches"


class CannotTell(Exception):
    """The probe was not taken; the message says why."""


class Forbidden(CannotTell):
    """The broker refuses the probe."""


async def send_probe(address: MqttAddress, topic: str) -> Sent:
    """Publish an empty message at QoS 1. Raises CannotTell, or Forbidden, where the broker does not take it."""
    properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
    properties.MessageExpiryInterval = LIFETIME_S
    try:
        async with mqtt_client(address, "probe") as client:
            await client.publish(topic, b"", qos=1, properties=properties)
            refused, unmatched = client.refused, client.unmatched
    except (aiomqtt.MqttError, SettingsError) as error:
        raise CannotTell(f"a message to {topic} could not be published ({error})") from error
    if refused is not None:
        raise Forbidden(
            f"the broker refuses a message to {topic} ({refused}): allow it to the user of DEVICESTAT_MQTT_URL"
        )
    return Sent.UNMATCHED if unmatched else Sent.TAKEN
