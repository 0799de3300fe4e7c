"""Checks of the broker for the ingestor: limits, grants, and waiting messages."""

from collections.abc import Mapping

from mqtt5 import ConnAckPacket, QoS

from deploy.doctor.broker_connection import BrokerConnection, connected, own_client_id
from deploy.doctor.limits import examine_largest, examine_limits, unshared
from deploy.doctor.refused import why_refused
from deploy.doctor.trials.queue import MESSAGES, RIGHT_BYTES, RIGHT_MESSAGES, examine_queue
from deploy.doctor.trials.redelivery import examine_redelivery
from ingestor.mqtt.reasons import check_suback
from ingestor.session.limits import SESSION_EXPIRY_S
from shared.errors import BrokerError, ConnectionRefused, SubscriptionRefused
from shared.settings import MqttAddress, Settings
from shared.status.findings import Finding, Severity
from shared.status.words import counted, printable

SYS_WAIT_S = 0.3
"""Time to wait for each of the broker's $SYS figures. A broker need not have them."""
_VERSION = "$SYS/broker/version"
_DROPPED = "$SYS/broker/publish/messages/dropped"
_DROPPED_A_MINUTE = "$SYS/broker/load/publish/dropped/1min"
_BYTES = "$SYS/broker/store/messages/bytes"
_STORED = "$SYS/broker/store/messages/count"
_RETAINED = "$SYS/broker/retained messages/count"
_FIGURES = (_VERSION, _DROPPED, _DROPPED_A_MINUTE, _STORED, _BYTES, _RETAINED)


async def examine_broker(settings: Settings, messages: int = MESSAGES) -> list[Finding]:
    """Check the limits, grants, redelivery and queue of the broker, and its waiting messages."""
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
    """Return the CONNACK for a CONNECT like the ingestor's; the session ends immediately."""
    async with connected(address, own_client_id(), expiry_s=SESSION_EXPIRY_S) as connection:
        return connection.connack


async def _own_figures(connection: BrokerConnection) -> dict[str, str]:
    """Return the $SYS figures by topic; empty if the broker does not publish them, or not to this user."""
    figures: dict[str, str] = {}
    await connection.subscribe(*_FIGURES, retained=True)
    while len(figures) < len(_FIGURES) and (message := await connection.message(SYS_WAIT_S)) is not None:
        figures[message.topic] = message.payload.decode(errors="replace")
    return figures


async def _subscription(connection: BrokerConnection, settings: Settings) -> Finding:
    # Without the group of a shared subscription: a member of the group would take messages from the ingestors.
    topic = unshared(settings)
    try:
        check_suback(await connection.subscribe(topic), topic)
    except SubscriptionRefused as error:
        return Finding(Severity.WRONG, "subscription", str(error))
    return Finding(Severity.OK, "subscription", f"{topic} at QoS 1")


def _waiting(figures: Mapping[str, str], settings: Settings, *, is_mosquitto: bool) -> list[Finding]:
    """Report the messages that wait for all clients: the broker does not count them by client."""
    try:
        waiting = max(0, int(figures[_STORED]) - int(figures[_RETAINED]))
    except (KeyError, ValueError):
        return []
    size = f" ({printable(figures[_BYTES])} bytes)" if _BYTES in figures else ""
    text = f"about {counted(waiting, 'message')}{size} in the broker, for all of its clients"
    if waiting <= settings.mqtt_window:
        return [Finding(Severity.OK, "waiting", text)]
    text = f"{text}: is the ingestor running and fast enough?"
    if is_mosquitto:
        bound = f"{RIGHT_MESSAGES} messages or {RIGHT_BYTES} bytes (mosquitto.conf)"
        text = f"{text} Beyond {bound} the broker drops messages of all devices"
    return [Finding(Severity.WARNING, "waiting", text)]


def _dropped(figures: Mapping[str, str], *, is_mosquitto: bool) -> list[Finding]:
    count = figures.get(_DROPPED, "0")
    if count == "0":
        return []
    rate = figures.get(_DROPPED_A_MINUTE, "0")
    limits = "max_queued_messages and max_queued_bytes, as in mosquitto.conf" if is_mosquitto else "its queue limits"
    advice = (
        f"raise {limits}. If they are that large already, a device "
        "publishes faster than its messages are stored: POST /devices/{id}/token rotates its token and disconnects it"
    )
    text = (
        f"the broker has dropped {printable(count)} acknowledged messages for its clients since it started, "
        f"{printable(rate)} a minute now: {advice}"
    )
    return [Finding(Severity.WARNING, "dropped", text)]
