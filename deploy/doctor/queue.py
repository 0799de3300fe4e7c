"""How much the broker keeps for an ingestor that is away, which no broker tells: it is tried.

A session of the doctor's own, on a topic of its own, goes away; messages are published to it; it comes back and
counts them. Nothing is left of it: the session ends with the probe, and would by itself a minute later, as the
messages would.
"""

import msgspec

from deploy.doctor.broker_connection import BrokerConnection, connected, own_client_id, own_topic
from deploy.doctor.findings import Finding, Severity
from deploy.doctor.trial import LIFETIME_S, PAYLOAD, QUIET_S, CannotTest, check_delivered, check_granted, forgotten
from shared.settings import MqttAddress

RIGHT_MESSAGES = "10000000"
RIGHT_BYTES = "2000000000"
"""As mosquitto.conf has them."""
ROUNDING = 2
"""Mosquitto 2.1 keeps one or two messages more than a bound."""
MESSAGES = 10_000
"""Ten times Mosquitto's default; a limit above it is not looked for."""
PUBLISH_S = 10.0
"""No longer than this, however far away the broker is."""


class QueueTrial(msgspec.Struct, frozen=True):
    """How many messages were published to a client that was away, and how many it found when it came back."""

    published: int
    found: int


async def examine_queue(
    address: MqttAddress, *, is_mosquitto: bool, messages: int = MESSAGES, within_s: float = PUBLISH_S
) -> list[Finding]:
    """Tries the queue, and says what makes it too small, of Mosquitto by name. Raises BrokerError."""
    try:
        kept = await keep_while_away(address, PAYLOAD, messages, within_s)
        if kept.found < kept.published:
            return await _what_is_too_small(address, kept) if is_mosquitto else [_keeps_too_few(kept)]
    except CannotTest as reason:
        return [Finding(Severity.WARNING, "queue", f"it cannot be told how many messages the broker keeps: {reason}")]
    text = f"at least {kept.published:,} messages are kept for an ingestor that is away"
    if kept.published == messages:
        return [Finding(Severity.OK, "queue", text)]
    slow = f"more than that could not be published in {within_s:g} s: run the doctor near the broker"
    return [Finding(Severity.WARNING, "queue", f"{text}; {slow}")]


async def _what_is_too_small(address: MqttAddress, kept: QueueTrial) -> list[Finding]:
    """Empty messages tell the two limits apart: they have a number, but no bytes."""
    empty = await keep_while_away(address, b"", kept.published)
    findings = []
    if empty.found < empty.published:
        findings.append(_too_small("max_queued_messages", RIGHT_MESSAGES, "messages", empty))
    if kept.found + ROUNDING < empty.found or not findings:
        findings.append(_too_small("max_queued_bytes", RIGHT_BYTES, f"messages of {len(PAYLOAD)} bytes", kept))
    return findings


def _keeps_too_few(kept: QueueTrial) -> Finding:
    text = (
        f"of {kept.published:,} messages for a client that was away the broker kept {kept.found:,} and dropped the "
        "others: raise its limit on what it queues for one client"
    )
    return Finding(Severity.WRONG, "queue", text)


def _too_small(name: str, right: str, messages: str, kept: QueueTrial) -> Finding:
    text = (
        f"{name} of the broker is too small: of {kept.published:,} {messages} for a client that was away it kept "
        f"{kept.found:,} and dropped the others. Set {name} {right}, as mosquitto.conf has it"
    )
    return Finding(Severity.WRONG, "queue", text)


async def keep_while_away(address: MqttAddress, payload: bytes, count: int, within_s: float = PUBLISH_S) -> QueueTrial:
    """Publishes the payload so often to a client that is away. Raises Untold, and BrokerError."""
    topic, client_id = own_topic(), own_client_id()
    async with connected(address, own_client_id()) as publisher, forgotten(address, client_id):
        async with connected(address, client_id, expiry_s=LIFETIME_S, forget=False) as session:
            check_granted(await session.subscribe(topic), topic)
            await check_delivered(publisher, session, topic)
        published = await publisher.publish(topic, payload, count=count, within_s=within_s, lifetime_s=LIFETIME_S)
        async with connected(address, client_id, clean_start=False) as session:
            if not session.connack.session_present:
                raise CannotTest("it has ended the session of a client that was away for a moment")
            return QueueTrial(published.answered, await _count(session, published.accepted))


async def _count(session: BrokerConnection, published: int) -> int:
    found = 0
    while found < published and await session.message(QUIET_S) is not None:
        found += 1
    return found
