"""Code that the doctor's tests of the broker share: checks of a session, and its removal."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from mqtt5 import SubAckPacket

from deploy.doctor.broker_connection import BrokerConnection, connected
from ingestor.mqtt.reasons import check_suback
from shared.broker.names import DOCTOR_TOPICS
from shared.errors import SubscriptionRefused
from shared.settings import MqttAddress

PAYLOAD = bytes(100)
QUIET_S = 1.0
"""Silence after which no further message is expected."""
LIFETIME_S = 60
"""Lifetime of the session and its messages, if the doctor is killed."""


class CannotTest(Exception):
    """The broker does not allow the test; the message says what it forbids."""


@asynccontextmanager
async def forgotten(address: MqttAddress, client_id: str) -> AsyncIterator[None]:
    """Remove the session of the client id from the broker at the end of the block."""
    try:
        yield
    finally:
        async with connected(address, client_id):
            pass


def check_granted(suback: SubAckPacket, topic: str) -> None:
    """Raise CannotTest unless the broker granted QoS 1."""
    try:
        check_suback(suback, topic)
    except SubscriptionRefused as error:
        raise CannotTest(str(error)) from error


async def check_delivered(publisher: BrokerConnection, session: BrokerConnection, topic: str) -> None:
    """Raise CannotTest unless a message to the topic is delivered."""
    advice = f"allow {DOCTOR_TOPICS} to DEVICESTAT_MQTT_URL's user"
    published = await publisher.publish(topic, PAYLOAD, lifetime_s=LIFETIME_S)
    if published.refused:
        raise CannotTest(f"it refuses a message to {topic} ({published.words}): {advice}")
    if await session.message(QUIET_S) is None:
        raise CannotTest(f"it accepts a message to {topic} and does not deliver it: {advice}")
