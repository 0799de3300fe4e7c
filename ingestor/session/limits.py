"""Limits in a broker's CONNACK, and their consequences for readings (MQTT 5, section 3.2.2.3).

The Receive Maximum of the CONNACK limits what clients send. The number of unacknowledged messages that the broker sends
to the ingestor is not announced; `devicestat doctor` measures it. Topic aliases and subscription identifiers are
unused.
"""

from collections.abc import Iterator

import msgspec
import structlog
from mqtt5 import ConnAckPacket, PublishPacket, QoS

from ingestor.payload.decode import MAX_PAYLOAD_BYTES
from ingestor.payload.message_pack import MESSAGE_PACK
from shared.settings import Settings, TopicFilter

SESSION_EXPIRY_S = 7 * 24 * 3600
"""Requested time that the broker keeps the session, and queues for it, while the ingestor is offline."""
RIGHT_PACKET_SIZE = 8_388_608
"""The limit in mosquitto.conf."""
LONGEST_KEY = "\U0010ffff" * 128
"""A device key of the largest possible size in bytes."""
NARROW = 20
"""Default of max_inflight_messages in Mosquitto and paho; a smaller Receive Maximum slows clients down."""

_log = structlog.get_logger()


class Limit(msgspec.Struct, frozen=True):
    """A limit in words, with advice. `loses`: whether readings are lost or refused because of it."""

    text: str
    advice: str
    on_mosquitto: str = ""
    loses: bool = True


def find_limits(connack: ConnAckPacket, settings: Settings) -> list[Limit]:
    """Return the limits in a CONNACK that answers a CONNECT with SESSION_EXPIRY_S."""
    form = settings.mqtt_topic
    return [*_session(connack), *_qos(connack), *_packets(connack, form), *_subscriptions(connack, form)]


def _session(connack: ConnAckPacket) -> Iterator[Limit]:
    kept_s = connack.session_expiry_interval
    if kept_s is None or kept_s >= SESSION_EXPIRY_S:
        return
    if kept_s == 0:
        text = (
            "the broker ends the session with each connection: messages that devices publish while the ingestor is "
            "offline are lost, and so are messages that were not acknowledged yet"
        )
    else:
        text = f"the broker keeps the session and its queue for {kept_s} s only: older messages are lost"
    yield Limit(
        text,
        f"raise its limit on session expiry to {SESSION_EXPIRY_S} s, seven days",
        f"set persistent_client_expiration to {SESSION_EXPIRY_S // 86_400}d, or remove it",
    )


def _qos(connack: ConnAckPacket) -> Iterator[Limit]:
    if connack.max_qos == QoS.AT_MOST_ONCE:
        text = "the broker supports QoS 0 only, without redelivery, so readings are lost"
        yield Limit(text, "allow QoS 1 in its configuration", "remove max_qos from its configuration")
    elif connack.max_qos == QoS.AT_LEAST_ONCE:
        text = "the broker does not support QoS 2, and disconnects a device that publishes at QoS 2"
        yield Limit(text, "publish at QoS 1, with a timestamp in the payload", loses=False)


def _packets(connack: ConnAckPacket, form: TopicFilter) -> Iterator[Limit]:
    size, needed = connack.max_packet_size, largest_packet(form)
    if size is not None and size < needed:
        yield Limit(
            f"the broker accepts packets of up to {size} bytes, and disconnects a device that sends a larger one: the "
            f"largest payload needs {needed}",
            f"raise its limit to {RIGHT_PACKET_SIZE}, or send smaller arrays",
            f"set max_packet_size {RIGHT_PACKET_SIZE}, as in mosquitto.conf",
        )
    if connack.receive_max < NARROW:
        yield Limit(
            f"the broker accepts {connack.receive_max} unacknowledged messages of one client at a time, and may "
            "disconnect a device that sends more",
            "raise its limit if devices publish in bursts",
            loses=False,
        )


def _subscriptions(connack: ConnAckPacket, form: TopicFilter) -> Iterator[Limit]:
    if not connack.shared_subscription_available:
        yield Limit(
            "the broker does not support shared subscriptions, which several ingestors need",
            f"enable them, or remove {form.group} from DEVICESTAT_MQTT_TOPIC" if form.group else "run one ingestor",
            loses=bool(form.group),
        )
    if not connack.wildcard_subscription_available:
        yield Limit(f"the broker does not support wildcard subscriptions, which {form.plain} needs", "enable them")


def largest_packet(form: TopicFilter) -> int:
    """Return the size of a PUBLISH with the largest payload that the ingestor accepts, in bytes."""
    topic = f"{form.prefix}{LONGEST_KEY}{form.suffix}"
    content_type = MESSAGE_PACK.content_type
    packet = PublishPacket(
        topic, bytes(MAX_PAYLOAD_BYTES), qos=QoS.AT_LEAST_ONCE, packet_id=1, content_type=content_type
    )
    return len(packet.write())


class LimitsLog:
    """Logs the limits at the first CONNACK, and again when they change."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._logged: list[Limit] = []

    def note(self, connack: ConnAckPacket) -> None:
        """Log the limits that the previous CONNACK did not have."""
        found = find_limits(connack, self._settings)
        for limit in found:
            if limit not in self._logged:
                write = _log.warning if limit.loses else _log.info
                write("the broker sets a limit", limit=limit.text, advice=limit.advice)
        if self._logged and not found:
            _log.info("the broker has removed its limits")
        self._logged = found
