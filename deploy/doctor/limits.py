"""Checks of the broker's limits against the largest payload of devices and the needs of the ingestor."""

from mqtt5 import ConnAckPacket

from deploy.doctor.broker_connection import connected, own_client_id, own_topic
from ingestor.payload.decode import MAX_PAYLOAD_BYTES
from ingestor.session.limits import Limit, find_limits
from shared.errors import BrokerError
from shared.settings import MqttAddress, Settings
from shared.status.findings import Finding, Severity


def examine_limits(connack: ConnAckPacket, settings: Settings, *, is_mosquitto: bool) -> list[Finding]:
    """Return a finding for each limit that matters. `connack`: answer to a CONNECT like the ingestor's."""
    return [_finding(limit, is_mosquitto=is_mosquitto) for limit in find_limits(connack, settings)]


def _finding(limit: Limit, *, is_mosquitto: bool) -> Finding:
    advice = limit.on_mosquitto if is_mosquitto and limit.on_mosquitto else limit.advice
    return Finding(Severity.WRONG if limit.loses else Severity.OK, "limits", f"{limit.text}: {advice}")


def unshared(settings: Settings) -> str:
    """Return the topic filter of the subscription, without its group."""
    return settings.mqtt_topic.plain


async def examine_largest(address: MqttAddress, *, is_mosquitto: bool) -> Finding:
    """Publish the largest payload, to a topic without subscribers, to find a limit that CONNACK does not state.

    With message_size_limit, Mosquitto drops such a message and sends a PUBACK with an invalid reason code.
    """
    size = f"a payload of {MAX_PAYLOAD_BYTES:,} bytes, the largest that a device may send,"
    try:
        async with connected(address, own_client_id()) as connection:
            published = await connection.publish(own_topic(), bytes(MAX_PAYLOAD_BYTES))
    except BrokerError as error:
        option = "If message_size_limit is in the broker's configuration, remove it"
        advice = option if is_mosquitto else "Raise the broker's limit on the size of messages"
        text = f"{size} is not accepted: {error}. {advice}"
        return Finding(Severity.WRONG, "limits", text)
    taken = "no limit that the broker announces is too small" if published.refused else f"{size} is accepted"
    return Finding(Severity.OK, "limits", taken)
