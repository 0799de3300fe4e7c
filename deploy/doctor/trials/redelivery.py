"""Test of the broker's redelivery after a lost connection, which no broker announces.

A session of the doctor acknowledges some messages and leaves others unacknowledged. It closes its connection without
DISCONNECT, reconnects, and records the deliveries. `promise` explains them.
"""

import time
from collections.abc import Iterable

from deploy.doctor.broker_connection import BrokerConnection, connected, own_client_id, own_topic
from deploy.doctor.trials.promise import Delivery, Observed, explain
from deploy.doctor.trials.trial import LIFETIME_S, CannotTest, check_delivered, check_granted, forgotten
from shared.settings import MqttAddress
from shared.status.findings import Finding, Severity

ACKNOWLEDGED = 4
UNACKNOWLEDGED = 32
"""Numbers of messages that are acknowledged, and that are not. Some brokers have fewer in flight."""
ENOUGH = 4
"""Messages that suffice for the test. HiveMQ sends one message at a time to a new session, and more after an
acknowledgement on a later connection. So with fewer messages, a second connection is closed as well."""
LIVE_S = 0.7
"""Time before the connection is closed, to observe retransmissions on it. rmqtt retransmits after 20 s, which the test
does not wait for."""
QUIET_S = 0.3
PATIENCE_S = 5.0
"""Time after which a message that was not redelivered counts as lost."""


async def examine_redelivery(address: MqttAddress) -> list[Finding]:
    """Test the redelivery, and explain the result. Raises BrokerError."""
    try:
        return explain(await observe(address))
    except CannotTest as reason:
        text = f"cannot test how the broker redelivers unacknowledged messages: {reason}"
        return [Finding(Severity.WARNING, "redelivery", text)]


async def observe(address: MqttAddress) -> Observed:
    """Leave messages unacknowledged, close the connection, and reconnect. Raises CannotTest and BrokerError."""
    topic, client_id = own_topic(), own_client_id()
    async with connected(address, own_client_id()) as publisher, forgotten(address, client_id):
        async with connected(address, client_id, expiry_s=LIFETIME_S, forget=False) as session:
            check_granted(await session.subscribe(topic), topic)
            await check_delivered(publisher, session, topic)
            await _publish(publisher, topic, range(ACKNOWLEDGED))
            acknowledged = await _acknowledged(session, ACKNOWLEDGED)
            await _publish(publisher, topic, range(ACKNOWLEDGED, ACKNOWLEDGED + UNACKNOWLEDGED))
            unacknowledged = await _left(session)
            session.drop()
        left = UNACKNOWLEDGED
        if len(unacknowledged) < ENOUGH:
            left -= len(unacknowledged)
            async with connected(address, client_id, clean_start=False, expiry_s=LIFETIME_S, forget=False) as session:
                await _acknowledged(session, len(unacknowledged))
                unacknowledged = await _left(session)
                session.drop()
        async with connected(address, client_id, clean_start=False) as session:
            if not session.connack.session_present:
                raise CannotTest("it ended the session of a client whose connection was lost")
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
    """Return the deliveries within LIVE_S, unacknowledged."""
    deliveries, ends = [], time.monotonic() + LIVE_S
    while (remaining := ends - time.monotonic()) > 0:
        if (one := await _delivery(session, remaining)) is not None:
            deliveries.append(one)
    return deliveries


async def _again(session: BrokerConnection, missing: set[int]) -> list[Delivery]:
    """Return the deliveries until no message is missing; acknowledge earlier ones if the broker waits for that."""
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
