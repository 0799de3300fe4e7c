"""Whether the broker is as the ingestor needs it, and what waits in it."""

from collections.abc import Mapping

from mqtt5 import ConnAckPacket, QoS

from deploy.cli.terminal import counted, printable
from deploy.doctor.broker_connection import BrokerConnection, connected, own_client_id
from deploy.doctor.findings import Finding, Severity
from deploy.doctor.limits import examine_largest, examine_limits, unshared
from deploy.doctor.queue import MESSAGES, RIGHT_BYTES, RIGHT_MESSAGES, examine_queue
from deploy.doctor.redelivery import examine_redelivery
from deploy.doctor.refused import why_refused
from ingestor.mqtt.reasons import check_suback
from ingestor.session.limits import SESSION_EXPIRY_S
from shared.errors import BrokerError, ConnectionRefused, SubscriptionRefused
from shared.settings import MqttAddress, Settings

SYS_WAIT_S = 0.3
"""How long the broker's own figures are waited for; a broker need not have any."""
_VERSION = "$SYS/broker/version"
_DROPPED = "$SYS/broker/publish/messages/dropped"
_DROPPED_A_MINUTE = "$SYS/broker/load/publish/dropped/1min"
_BYTES = "$SYS/broker/store/messages/bytes"
_STORED = "$SYS/broker/store/messages/count"
_RETAINED = "$SYS/broker/retained messages/count"
_FIGURES = (_VERSION, _DROPPED, _DROPPED_A_MINUTE, _STORED, _BYTES, _RETAINED)


async def examine_broker(settings: Settings, messages: int = MESSAGES) -> list[Finding]:
    """What the broker offers, grants and keeps, and what waits in it."""
    address = settings.broker
    try:
        offer = await _offer(address)
        async with connected(address, own_client_id()) as connection:
            figures = await _own_figures(connection)
            is_mosquitto = figures.get(_VERSION, "").startswith("mosquitto")
            limits = examine_limits(offer, settings, is_mosquitto=is_mosquitto)
            if not any(limit.severity is Severity.WRONG for limit in limits):
                limits.append(await examine_largest(address, is_mosquitto=is_mosquitto))
            kept = []
            if offer.max_qos != QoS.AT_MOST_ONCE:
                kept += await examine_redelivery(address)
                kept += await examine_queue(address, is_mosquitto=is_mosquitto, messages=messages)
            subscription = await _subscription(connection, settings)
    except ConnectionRefused as error:
        return [Finding(Severity.WRONG, "broker", await why_refused(settings, error))]
    except BrokerError as error:
        return [Finding(Severity.WRONG, "broker", str(error))]
    found = Finding(Severity.OK, "broker", f"{printable(figures.get(_VERSION, 'MQTT 5'))} at {address}")
    waiting = _waiting(figures, settings, is_mosquitto=is_mosquitto)
    return [found, subscription, *limits, *kept, *waiting, *_dropped(figures, is_mosquitto=is_mosquitto)]


async def _offer(address: MqttAddress) -> ConnAckPacket:
    """The answer to a CONNECT like the ingestor's, for a session that holds nothing and ends at once."""
    async with connected(address, own_client_id(), expiry_s=SESSION_EXPIRY_S) as connection:
        return connection.connack


async def _own_figures(connection: BrokerConnection) -> dict[str, str]:
    """What the broker publishes of itself; empty where it doesn't, or not to us."""
    figures: dict[str, str] = {}
    await connection.subscribe(*_FIGURES, retained=True)
    while len(figures) < len(_FIGURES) and (message := await connection.message(SYS_WAIT_S)) is not None:
        figures[message.topic] = message.payload.decode(errors="replace")
    return figures


async def _subscription(connection: BrokerConnection, settings: Settings) -> Finding:
    # Not the shared form: a share of the messages would come here, and be lost to the ingestors.
    topic = unshared(settings)
    try:
        check_suback(await connection.subscribe(topic), topic)
    except SubscriptionRefused as error:
        return Finding(Severity.WRONG, "subscription", str(error))
    return Finding(Severity.OK, "subscription", f"{topic} at QoS 1")


def _waiting(figures: Mapping[str, str], settings: Settings, *, is_mosquitto: bool) -> list[Finding]:
    """For all of the broker's clients: it does not tell for whom."""
    try:
        waiting = max(0, int(figures[_STORED]) - int(figures[_RETAINED]))
    except (KeyError, ValueError):
        return []
    size = f" ({printable(figures[_BYTES])} bytes)" if _BYTES in figures else ""
    text = f"about {counted(waiting, 'message')}{size} in the broker, for all of its clients"
    if waiting <= settings.mqtt_window:
        return [Finding(Severity.OK, "waiting", text)]
    text = f"{text}: is the ingestor running, and does it keep up?"
    if is_mosquitto:
        bound = f"{RIGHT_MESSAGES} messages or {RIGHT_BYTES} bytes (mosquitto.conf)"
        text = f"{text} Beyond {bound} it drops those of every device"
    return [Finding(Severity.WARNING, "waiting", text)]


def _dropped(figures: Mapping[str, str], *, is_mosquitto: bool) -> list[Finding]:
    count = figures.get(_DROPPED, "0")
    if count == "0":
        return []
    rate = figures.get(_DROPPED_A_MINUTE, "0")
    limits = "max_queued_messages and max_queued_bytes, as in mosquitto.conf" if is_mosquitto else "its queues' limits"
    advice = (
        f"raise {limits}. If they are that large, a device "
        "publishes faster than its messages are stored: POST /devices/{id}/token rotates its token, and cuts it off"
    )
    text = (
        f"the broker has dropped messages for one of its clients since it started ({printable(count)}), "
        f"{printable(rate)} a minute now; they were acknowledged: {advice}"
    )
    return [Finding(Severity.WARNING, "dropped", text)]
