"""What a broker's CONNACK limits, and what follows from it for readings (MQTT 5, section 3.2.2.3).

The Receive Maximum of the CONNACK is about what clients send. How many unacknowledged messages the broker sends to the
ingestor is not announced: `devicestat doctor` counts them. Topic aliases and subscription identifiers are not used.
"""

from collections.abc import Iterator

import msgspec
import structlog
from mqtt5 import ConnAckPacket, PublishPacket, QoS

from ingestor.payload.decode import MAX_PAYLOAD_BYTES
from ingestor.payload.message_pack import MESSAGE_PACK
from ingestor.processes import SHARE
from shared.settings import Settings, TopicFilter, parse_topic_filter

SESSION_EXPIRY_S = 7 * 24 * 3600
"""How long the broker is asked to keep the session, and to queue for it, while the ingestor is away."""
RIGHT_PACKET_SIZE = 8_388_608
"""As mosquitto.conf has it."""
LONGEST_KEY = "\U0010ffff" * 128
"""A device's key with as many bytes as one can have."""
NARROW = 20
"""Mosquitto's default of max_inflight_messages, and paho's: a broker that takes fewer at once slows clients down."""

_log = structlog.get_logger()


class Limit(msgspec.Struct, frozen=True):
    """One limit in words: what it is, and what follows. `loses`: whether readings are lost or refused by it."""

    text: str
    advice: str
    on_mosquitto: str = ""
    loses: bool = True


def find_limits(connack: ConnAckPacket, settings: Settings) -> list[Limit]:
    """Return what the CONNACK limits; nothing where all is as asked. It answers a CONNECT with SESSION_EXPIRY_S."""
    form = parse_topic_filter(settings.mqtt_topic)
    return [*_session(connack), *_qos(connack), *_packets(connack, form), *_subscriptions(connack, settings, form)]


def _session(connack: ConnAckPacket) -> Iterator[Limit]:
    kept_s = connack.session_expiry_interval
    if kept_s is None or kept_s >= SESSION_EXPIRY_S:
        return
    if kept_s == 0:
        text = (
            "the broker ends the session with each connection: what devices publish while the ingestor is away is "
            "lost, and so is what was delivered and not yet acknowledged"
        )
    else:
        text = f"the broker keeps the session, and what waits in it, for {kept_s} s only: what is older is lost"
    yield Limit(
        text,
        f"raise its limit on session expiry to {SESSION_EXPIRY_S} s, seven days",
        f"set persistent_client_expiration to {SESSION_EXPIRY_S // 86_400}d, or take it out",
    )


def _qos(connack: ConnAckPacket) -> Iterator[Limit]:
    if connack.max_qos == QoS.AT_MOST_ONCE:
        text = "the broker has QoS 0 only, on which nothing is delivered again, so that readings are lost"
        yield Limit(text, "allow QoS 1 in its configuration", "take max_qos out of its configuration")
    elif connack.max_qos == QoS.AT_LEAST_ONCE:
        text = "the broker takes no QoS 2, and disconnects a device that publishes at it"
        yield Limit(text, "publish at QoS 1, with a timestamp in the payload", loses=False)


def _packets(connack: ConnAckPacket, form: TopicFilter) -> Iterator[Limit]:
    size, needed = connack.max_packet_size, largest_packet(form)
    if size is not None and size < needed:
        yield Limit(
            f"the broker takes packets of up to {size} bytes, and disconnects a device that sends a larger one: the "
            f"largest payload takes {needed}",
            f"raise its limit to {RIGHT_PACKET_SIZE}, or send smaller arrays",
            f"set max_packet_size {RIGHT_PACKET_SIZE}, as mosquitto.conf has it",
        )
    if connack.receive_max < NARROW:
        yield Limit(
            f"the broker takes {connack.receive_max} unacknowledged messages of one client at a time, and may "
            "disconnect a device that sends more",
            "raise its limit if devices publish in bursts",
            loses=False,
        )


def _subscriptions(connack: ConnAckPacket, settings: Settings, form: TopicFilter) -> Iterator[Limit]:
    if not connack.shared_subscription_available:
        is_shared = settings.mqtt_topic.startswith(SHARE)
        group = settings.mqtt_topic.removesuffix(form.plain)
        yield Limit(
            "the broker has no shared subscriptions, which several ingestors need",
            f"turn them on, or take {group} off DEVICESTAT_MQTT_TOPIC" if is_shared else "run one ingestor",
            loses=is_shared,
        )
    if not connack.wildcard_subscription_available:
        yield Limit(f"the broker has no wildcard subscriptions, which {form.plain} needs", "turn them on")


def largest_packet(form: TopicFilter) -> int:
    """Return the bytes of a PUBLISH with the largest payload that the ingestor takes."""
    topic = f"{form.prefix}{LONGEST_KEY}{form.suffix}"
    content_type = MESSAGE_PACK.content_type
    packet = PublishPacket(
        topic, bytes(MAX_PAYLOAD_BYTES), qos=QoS.AT_LEAST_ONCE, packet_id=1, content_type=content_type
    )
    return len(packet.write())


class LimitsLog:
    """Logs the limits at the first CONNACK, and again when they have changed."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._logged: list[Limit] = []

    def note(self, connack: ConnAckPacket) -> None:
        """Log what the CONNACK limits, unless the one before did the same."""
        found = find_limits(connack, self._settings)
        for limit in found:
            if limit not in self._logged:
                write = _log.warning if limit.loses else _log.info
                write("the broker sets a limit", limit=limit.text, advice=limit.advice)
        if self._logged and not found:
            _log.info("the broker has lifted its limits")
        self._logged = found
