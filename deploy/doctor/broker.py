"""Checks of the broker for the ingestor: limits, grants, and waiting messages."""

from mqtt5 import ConnAckPacket, QoS

from deploy.doctor.broker_connection import BrokerConnection, connected, own_client_id
from deploy.doctor.limits import examine_largest, examine_limits, unshared
from deploy.doctor.refused import why_refused
from deploy.doctor.trials.queue import MESSAGES, examine_queue
from deploy.doctor.trials.redelivery import examine_redelivery
from ingestor.mqtt.reasons import check_suback
from ingestor.session.limits import SESSION_EXPIRY_S
from shared.errors import BrokerError, ConnectionRefused, SubscriptionRefused
from shared.settings import MqttAddress, Settings
from shared.status.broker import TOPICS, figures_of, is_mosquitto, judge_broker
from shared.status.figures import BrokerFigures
from shared.status.findings import Finding, Severity

SYS_WAIT_S = 0.3
"""Time to wait for each of the broker's $SYS figures. A broker need not have them."""


async def examine_broker(settings: Settings, messages: int = MESSAGES) -> list[Finding]:
    """Check the limits, grants, redelivery and queue of the broker, and its waiting messages."""
    address = settings.broker
    try:
        offer = await _offer(address)
        async with connected(address, own_client_id()) as connection:
            figures = await _own_figures(connection)
            on_mosquitto = is_mosquitto(figures)
            limits = examine_limits(offer, settings, is_mosquitto=on_mosquitto)
            if not any(limit.severity is Severity.WRONG for limit in limits):
                limits.append(await examine_largest(address, is_mosquitto=on_mosquitto))
            kept = []
            if offer.max_qos != QoS.AT_MOST_ONCE:
                kept += await examine_redelivery(address)
                kept += await examine_queue(address, is_mosquitto=on_mosquitto, messages=messages)
            subscription = await _subscription(connection, settings)
    except ConnectionRefused as error:
        return [Finding(Severity.WRONG, "broker", await why_refused(settings, error))]
    except BrokerError as error:
        return [Finding(Severity.WRONG, "broker", str(error))]
    found = Finding(Severity.OK, "broker", f"{figures.version or 'MQTT 5'} at {address}")
    return [found, subscription, *limits, *kept, *judge_broker(figures, settings.mqtt_window)]


async def _offer(address: MqttAddress) -> ConnAckPacket:
    """Return the CONNACK for a CONNECT like the ingestor's; the session ends immediately."""
    async with connected(address, own_client_id(), expiry_s=SESSION_EXPIRY_S) as connection:
        return connection.connack


async def _own_figures(connection: BrokerConnection) -> BrokerFigures:
    """Return the $SYS figures; none if the broker does not publish them, or not to this user."""
    messages: dict[str, bytes] = {}
    await connection.subscribe(*TOPICS, retained=True)
    while len(messages) < len(TOPICS) and (message := await connection.message(SYS_WAIT_S)) is not None:
        messages[message.topic] = message.payload
    return figures_of(messages)


async def _subscription(connection: BrokerConnection, settings: Settings) -> Finding:
    # Without the group of a shared subscription: a member of the group would take messages from the ingestors.
    topic = unshared(settings)
    try:
        check_suback(await connection.subscribe(topic), topic)
    except SubscriptionRefused as error:
        return Finding(Severity.WRONG, "subscription", str(error))
    return Finding(Severity.OK, "subscription", f"{topic} at QoS 1")
