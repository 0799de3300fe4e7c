"""Test of the broker's queue for an offline ingestor, whose limits no broker states.

A session of the doctor disconnects; messages are published to its topic; it reconnects and counts them. Session and
messages are removed at the end of the test. If the doctor is killed, they expire after a minute.
"""

import msgspec

from deploy.doctor.broker_connection import BrokerConnection, connected, own_client_id, own_topic
from deploy.doctor.trials.trial import (
    LIFETIME_S,
    PAYLOAD,
    QUIET_S,
    CannotTest,
    check_delivered,
    check_granted,
    forgotten,
)
from shared.settings import MqttAddress
from shared.status.broker import RIGHT_BYTES, RIGHT_MESSAGES
from shared.status.findings import Finding, Severity

ROUNDING = 2
"""Mosquitto 2.1 queues one or two messages more than its limit."""
MESSAGES = 10_000
"""Ten times Mosquitto's default. A larger limit is not found."""
PUBLISH_S = 10.0
"""Time limit for publishing to a distant broker."""


class QueueTrial(msgspec.Struct, frozen=True):
    """Number of messages that were published to an offline client, and number that it received afterwards."""

    published: int
    found: int


async def examine_queue(
    address: MqttAddress, *, is_mosquitto: bool, messages: int = MESSAGES, within_s: float = PUBLISH_S
) -> list[Finding]:
    """Test the queue. For Mosquitto, name the option that makes it too small. Raises BrokerError."""
    try:
        kept = await keep_while_away(address, PAYLOAD, messages, within_s)
        if kept.found < kept.published:
            return await _what_is_too_small(address, kept) if is_mosquitto else [_keeps_too_few(kept)]
    except CannotTest as reason:
        return [Finding(Severity.WARNING, "queue", f"cannot test how many messages the broker queues: {reason}")]
    text = f"the broker queues at least {kept.published:,} messages for an offline ingestor"
    if kept.published == messages:
        return [Finding(Severity.OK, "queue", text)]
    slow = f"no more could be published in {within_s:g} s: run the doctor near the broker"
    return [Finding(Severity.WARNING, "queue", f"{text}; {slow}")]


async def _what_is_too_small(address: MqttAddress, kept: QueueTrial) -> list[Finding]:
    """Distinguish the two limits with empty messages, which add to the number and not to the bytes."""
    empty = await keep_while_away(address, b"", kept.published)
    findings = []
    if empty.found < empty.published:
        findings.append(_too_small("max_queued_messages", RIGHT_MESSAGES, "messages", empty))
    if kept.found + ROUNDING < empty.found or not findings:
        findings.append(_too_small("max_queued_bytes", RIGHT_BYTES, f"messages of {len(PAYLOAD)} bytes", kept))
    return findings


def _keeps_too_few(kept: QueueTrial) -> Finding:
    text = (
        f"of {kept.published:,} messages for an offline client the broker kept {kept.found:,} and dropped the "
        "others: raise its limit on the queue of a client"
    )
    return Finding(Severity.WRONG, "queue", text)


def _too_small(name: str, right: str, messages: str, kept: QueueTrial) -> Finding:
    text = (
        f"{name} of the broker is too small: of {kept.published:,} {messages} for an offline client it kept "
        f"{kept.found:,} and dropped the others. Set {name} {right}, as in mosquitto.conf"
    )
    return Finding(Severity.WRONG, "queue", text)


async def keep_while_away(address: MqttAddress, payload: bytes, count: int, within_s: float = PUBLISH_S) -> QueueTrial:
    """Publish the payload `count` times to an offline client. Raises CannotTest and BrokerError."""
    topic, client_id = own_topic(), own_client_id()
    async with connected(address, own_client_id()) as publisher, forgotten(address, client_id):
        async with connected(address, client_id, expiry_s=LIFETIME_S, forget=False) as session:
            check_granted(await session.subscribe(topic), topic)
            await check_delivered(publisher, session, topic)
        published = await publisher.publish(topic, payload, count=count, within_s=within_s, lifetime_s=LIFETIME_S)
        async with connected(address, client_id, clean_start=False) as session:
            if not session.connack.session_present:
                raise CannotTest("it ended the session of a client that was offline for a moment")
            return QueueTrial(published.answered, await _count(session, published.accepted))


async def _count(session: BrokerConnection, published: int) -> int:
    found = 0
    while found < published and await session.message(QUIET_S) is not None:
        found += 1
    return found
