"""How the broker delivers again what was not acknowledged when a connection was lost, which no broker announces.

A session of the doctor's own, on a topic of its own, acknowledges some messages and leaves others. Its connection is
dropped without DISCONNECT; it comes back and notes what is delivered. `promise` says what follows from it.
"""

import time
from collections.abc import Iterable

from deploy.doctor.broker_connection import BrokerConnection, connected, own_client_id, own_topic
from deploy.doctor.findings import Finding, Severity
from deploy.doctor.promise import Delivery, Observed, explain
from deploy.doctor.trial import LIFETIME_S, CannotTest, check_delivered, check_granted, forgotten
from shared.settings import MqttAddress

ACKNOWLEDGED = 4
LEFT = 32
"""Messages that are acknowledged, and that are left; the latter are more than some brokers send at once."""
ENOUGH = 4
"""HiveMQ sends a new session one message at a time, and more once one is acknowledged after a reconnect: where fewer
came, a second connection is lost."""
LIVE_S = 0.7
"""How long a connection is left open before it is lost, to see whether messages are sent again on it. rmqtt does so
after 20 s, which is too long to wait for."""
QUIET_S = 0.3
PATIENCE_S = 5.0
"""What has not been delivered again after this time is lost."""


async def examine_redelivery(address: MqttAddress) -> list[Finding]:
    """Try the redelivery, and say what it means for what is promised. Raises BrokerError."""
    try:
        return explain(await observe(address))
    except CannotTest as reason:
        text = f"it cannot be told how the broker delivers again what was not acknowledged: {reason}"
        return [Finding(Severity.WARNING, "redelivery", text)]


async def observe(address: MqttAddress) -> Observed:
    """Leave messages unacknowledged, lose the connection, and come back. Raises Untold, and BrokerError."""
    topic, client_id = own_topic(), own_client_id()
    async with connected(address, own_client_id()) as publisher, forgotten(address, client_id):
        async with connected(address, client_id, expiry_s=LIFETIME_S, forget=False) as session:
            check_granted(await session.subscribe(topic), topic)
            await check_delivered(publisher, session, topic)
            await _publish(publisher, topic, range(ACKNOWLEDGED))
            acknowledged = await _acknowledged(session, ACKNOWLEDGED)
            await _publish(publisher, topic, range(ACKNOWLEDGED, ACKNOWLEDGED + LEFT))
            unacknowledged = await _left(session)
            session.drop()
        left = LEFT
        if len(unacknowledged) < ENOUGH:
            left -= len(unacknowledged)
            async with connected(address, client_id, clean_start=False, expiry_s=LIFETIME_S, forget=False) as session:
                await _acknowledged(session, len(unacknowledged))
                unacknowledged = await _left(session)
                session.drop()
        async with connected(address, client_id, clean_start=False) as session:
            if not session.connack.session_present:
                raise CannotTest("it has ended the session of a client whose connection was lost")
            again = await _again(session, {one.number for one in unacknowledged})
    return Observed(acknowledged=acknowledged, unacknowledged=unacknowledged, again=again, left=left)


async def _publish(publisher: BrokerConnection, topic: str, numbers: Iterable[int]) -> None:
    for number in numbers:
        await publisher.publish(topic, str(number).encode(), lifetime_s=LIFETIME_S)


async def _delivery(session: BrokerConnection, within_s: float) -> Delivery | None:
    message = await session.message(within_s, acknowledge=False)
    if message is None or message.packet_id is None:
        return None
    return Delivery(int(message.payload), message.packet_id, message.duplicate)


async def _acknowledged(session: BrokerConnection, count: int) -> list[Delivery]:
    deliveries: list[Delivery] = []
    while len(deliveries) < count and (one := await _delivery(session, PATIENCE_S)) is not None:
        session.acknowledge(one.packet_id)
        deliveries.append(one)
    return deliveries


async def _left(session: BrokerConnection) -> list[Delivery]:
    """What comes in LIVE_S, unacknowledged."""
    deliveries, ends = [], time.monotonic() + LIVE_S
    while (remaining := ends - time.monotonic()) > 0:
        if (one := await _delivery(session, remaining)) is not None:
            deliveries.append(one)
    return deliveries


async def _again(session: BrokerConnection, missing: set[int]) -> list[Delivery]:
    """What comes until none is missing; what has come is acknowledged when the broker waits for that."""
    deliveries: list[Delivery] = []
    pending: list[int] = []
    missing, ends = set(missing), time.monotonic() + PATIENCE_S
    while missing and time.monotonic() < ends:
        one = await _delivery(session, QUIET_S)
        if one is not None:
            deliveries.append(one)
            pending.append(one.packet_id)
            missing.discard(one.number)
        while one is None and pending:
            session.acknowledge(pending.pop(0))
    return deliveries
