"""The limits that the broker tells in its CONNACK, held against what devices may send and the ingestor needs."""

from collections.abc import Iterator

from mqtt5 import ConnAckPacket, PublishPacket, QoS

from deploy.doctor.connection import connected, own_client_id, own_topic
from deploy.doctor.findings import Finding, State
from ingestor.decode import MAX_PAYLOAD_BYTES
from ingestor.payload import MSGPACK
from ingestor.session import SESSION_EXPIRY_S
from shared.errors import BrokerError
from shared.settings import MqttAddress, Settings, parse_topic_filter

RIGHT_PACKET_SIZE = 8_388_608
"""As mosquitto.conf has it."""
LONGEST_KEY = "\U0010ffff" * 128
"""A device's key with as many bytes as one can have."""


def examine_limits(connack: ConnAckPacket, settings: Settings) -> list[Finding]:
    """What is too small or turned off; nothing where all is right. `connack` answers a CONNECT like the ingestor's."""
    faults = (*_packet_size(connack, settings), *_session(connack), *_subscriptions(connack, settings))
    return [Finding(State.WRONG, "limits", text) for text in faults]


def _packet_size(connack: ConnAckPacket, settings: Settings) -> Iterator[str]:
    size, needed = connack.max_packet_size, largest_packet(settings)
    if size is not None and size < needed:
        yield (
            f"max_packet_size of the broker is {size}, and a device that sends more is disconnected: the largest "
            f"payload takes {needed}. Set max_packet_size {RIGHT_PACKET_SIZE}, as mosquitto.conf has it"
        )


def _session(connack: ConnAckPacket) -> Iterator[str]:
    if connack.max_qos == QoS.AT_MOST_ONCE:
        yield (
            "max_qos of the broker is 0, on which nothing is delivered again, so that readings are lost: "
            "take max_qos out of its configuration"
        )
    kept_s = connack.session_expiry_interval
    if kept_s is not None and kept_s < SESSION_EXPIRY_S:
        yield (
            f"the broker keeps what waits for an ingestor that is away for {kept_s} s only: raise its limit on session "
            f"expiry (persistent_client_expiration of Mosquitto) to {SESSION_EXPIRY_S} s, seven days"
        )


def _subscriptions(connack: ConnAckPacket, settings: Settings) -> Iterator[str]:
    topic = unshared(settings)
    if not connack.shared_subscription_available and topic != settings.mqtt_topic:
        group = settings.mqtt_topic.removesuffix(topic)
        advice = f"turn them on, or take {group} off DEVICESTAT_MQTT_TOPIC"
        yield f"shared subscriptions are turned off in the broker: {advice}"
    if not connack.wildcard_subscription_available:
        yield f"wildcard subscriptions are turned off in the broker: turn them on, which {topic} needs"


def unshared(settings: Settings) -> str:
    """The topic filter of the subscription, without its group."""
    form = parse_topic_filter(settings.mqtt_topic)
    return f"{form.prefix}+{form.suffix}"


def largest_packet(settings: Settings) -> int:
    """The bytes of a PUBLISH with the largest payload that the ingestor takes."""
    topic = unshared(settings).replace("+", LONGEST_KEY, 1)
    packet = PublishPacket(topic, bytes(MAX_PAYLOAD_BYTES), qos=QoS.AT_LEAST_ONCE, packet_id=1, content_type=MSGPACK)
    return len(packet.write())


async def examine_largest(address: MqttAddress) -> Finding:
    """Tries whether a limit that the CONNACK does not tell keeps the largest payload out.

    Nobody is subscribed to its topic. Mosquitto's message_size_limit acknowledges such a message and drops it; to
    MQTT 5 it says so, but with a reason code that is none of PUBACK's.
    """
    size = f"a payload of {MAX_PAYLOAD_BYTES:,} bytes, the largest that a device may send,"
    try:
        async with connected(address, own_client_id()) as connection:
            published = await connection.publish(own_topic(), bytes(MAX_PAYLOAD_BYTES))
    except BrokerError as error:
        text = f"{size} is not taken: {error}. If message_size_limit is in the broker's configuration, take it out"
        return Finding(State.WRONG, "limits", text)
    taken = "the broker tells of none that is too small" if published.refused else f"{size} is taken"
    return Finding(State.OK, "limits", taken)
