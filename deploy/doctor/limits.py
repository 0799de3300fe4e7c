"""The limits that the broker tells in its CONNACK, held against what devices may send and the ingestor needs."""

from mqtt5 import ConnAckPacket

from deploy.doctor.broker_connection import connected, own_client_id, own_topic
from deploy.doctor.findings import Finding, Severity
from ingestor.payload.decode import MAX_PAYLOAD_BYTES
from ingestor.session.limits import Limit, find_limits
from shared.errors import BrokerError
from shared.settings import MqttAddress, Settings


def examine_limits(connack: ConnAckPacket, settings: Settings, *, is_mosquitto: bool) -> list[Finding]:
    """What the broker limits; nothing where all is right. `connack` answers a CONNECT like the ingestor's."""
    return [_finding(limit, is_mosquitto=is_mosquitto) for limit in find_limits(connack, settings)]


def _finding(limit: Limit, *, is_mosquitto: bool) -> Finding:
    advice = limit.on_mosquitto if is_mosquitto and limit.on_mosquitto else limit.advice
    return Finding(Severity.WRONG if limit.loses else Severity.OK, "limits", f"{limit.text}: {advice}")


def unshared(settings: Settings) -> str:
    """The topic filter of the subscription, without its group."""
    return settings.mqtt_topic.plain


async def examine_largest(address: MqttAddress, *, is_mosquitto: bool) -> Finding:
    """Tries whether a limit that the CONNACK does not tell keeps the largest payload out.

    Nobody is subscribed to its topic. Mosquitto's message_size_limit acknowledges such a message and drops it; to
    MQTT 5 it says so, but with a reason code that is none of PUBACK's.
    """
    size = f"a payload of {MAX_PAYLOAD_BYTES:,} bytes, the largest that a device may send,"
    try:
        async with connected(address, own_client_id()) as connection:
            published = await connection.publish(own_topic(), bytes(MAX_PAYLOAD_BYTES))
    except BrokerError as error:
        option = "If message_size_limit is in the broker's configuration, take it out"
        advice = option if is_mosquitto else "Raise the broker's limit on the size of messages"
        text = f"{size} is not taken: {error}. {advice}"
        return Finding(Severity.WRONG, "limits", text)
    taken = "the broker tells of none that is too small" if published.refused else f"{size} is taken"
    return Finding(Severity.OK, "limits", taken)
