"""How much the broker keeps for an ingestor that is away, which no broker tells: it is tried.

A session of the doctor's own, on a topic of its own, goes away; messages are published to it; it comes back and
counts them. Nothing is left of it: the session ends with the probe, and would by itself a minute later, as the
messages would.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
from mqtt5 import SubAckPacket

from deploy.doctor.connection import BrokerConnection, connected, own_client_id, own_topic
from deploy.doctor.findings import Finding, State
from ingestor.reasons import check_suback
from shared.broker.permissions import DOCTOR_TOPICS
from shared.errors import SubscriptionRefused
from shared.settings import MqttAddress

RIGHT_MESSAGES = "10000000"
RIGHT_BYTES = "2000000000"
"""As mosquitto.conf has them."""
ROUNDING = 2
"""Mosquitto 2.1 keeps one or two messages more than a bound."""
MESSAGES = 10_000
"""Ten times Mosquitto's default; a limit above it is not looked for."""
PAYLOAD = bytes(100)
PUBLISH_S = 10.0
"""No longer than this, however far away the broker is."""
QUIET_S = 1.0
"""When no more has come for so long, nothing more comes."""
LIFETIME_S = 60
"""Of the session and its messages, if the doctor is killed."""


class Untold(Exception):
    """The broker does not let it be tried; the message says what it forbids."""


class Kept(msgspec.Struct, frozen=True):
    """How many messages were published to a client that was away, and how many it found when it came back."""

    published: int
    found: int


async def examine_queue(address: MqttAddress) -> list[Finding]:
    """Tries the queue, and says by name what makes it too small. Raises BrokerError."""
    try:
        kept = await keep_while_away(address, PAYLOAD, MESSAGES)
        if kept.found < kept.published:
            return await _what_is_too_small(address, kept)
    except Untold as reason:
        return [Finding(State.WARNING, "queue", f"it cannot be told how many messages the broker keeps: {reason}")]
    text = f"at least {kept.published:,} messages are kept for an ingestor that is away"
    if kept.published == MESSAGES:
        return [Finding(State.OK, "queue", text)]
    slow = f"more than that could not be published in {PUBLISH_S:g} s: run the doctor near the broker"
    return [Finding(State.WARNING, "queue", f"{text}; {slow}")]


async def _what_is_too_small(address: MqttAddress, kept: Kept) -> list[Finding]:
    """Empty messages tell the two limits apart: they have a number, but no bytes."""
    empty = await keep_while_away(address, b"", kept.published)
    findings = []
    if empty.found < empty.published:
        findings.append(_too_small("max_queued_messages", RIGHT_MESSAGES, "messages", empty))
    if kept.found + ROUNDING < empty.found or not findings:
        findings.append(_too_small("max_queued_bytes", RIGHT_BYTES, f"messages of {len(PAYLOAD)} bytes", kept))
    return findings


def _too_small(name: str, right: str, messages: str, kept: Kept) -> Finding:
    text = (
        f"{name} of the broker is too small: of {kept.published:,} {messages} for a client that was away it kept "
        f"{kept.found:,} and dropped the others. Set {name} {right}, as mosquitto.conf has it"
    )
    return Finding(State.WRONG, "queue", text)


async def keep_while_away(address: MqttAddress, payload: bytes, count: int) -> Kept:
    """Publishes the payload so often to a client that is away. Raises Untold, and BrokerError."""
    topic, client_id = own_topic(), own_client_id()
    async with connected(address, own_client_id()) as publisher, _forgotten(address, client_id):
        async with connected(address, client_id, expiry_s=LIFETIME_S, forget=False) as session:
            _check_granted(await session.subscribe(topic), topic)
            await _check_delivered(publisher, session, topic)
        published = await publisher.publish(topic, payload, count=count, within_s=PUBLISH_S, lifetime_s=LIFETIME_S)
        async with connected(address, client_id, clean_start=False) as session:
            if not session.connack.session_present:
                raise Untold("it has ended the session of a client that was away for a moment")
            return Kept(published.answered, await _count(session, published.accepted))


@asynccontextmanager
async def _forgotten(address: MqttAddress, client_id: str) -> AsyncIterator[None]:
    """Whatever happens in between, the broker has no session of the client id afterwards."""
    try:
        yield
    finally:
        async with connected(address, client_id):
            pass


def _check_granted(suback: SubAckPacket, topic: str) -> None:
    try:
        check_suback(suback, topic)
    except SubscriptionRefused as error:
        raise Untold(str(error)) from error


async def _check_delivered(publisher: BrokerConnection, session: BrokerConnection, topic: str) -> None:
    advice = f"allow {DOCTOR_TOPICS} to DEVICESTAT_MQTT_URL's user, or compare with mosquitto.conf yourself"
    published = await publisher.publish(topic, PAYLOAD, lifetime_s=LIFETIME_S)
    if published.refused:
        raise Untold(f"it refuses a message to {topic} ({published.words}): {advice}")
    if await session.message(QUIET_S) is None:
        raise Untold(f"it takes a message to {topic} but does not deliver it: {advice}")


async def _count(session: BrokerConnection, published: int) -> int:
    found = 0
    while found < published and await session.message(QUIET_S) is not None:
        found += 1
    return found
