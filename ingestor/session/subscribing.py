"""The exchange of SUBSCRIBE and UNSUBSCRIBE on one connection.

If a filter is removed, SUBSCRIBE for the wanted filters is sent before its UNSUBSCRIBE and after it. The first
SUBSCRIBE avoids a gap. The second one has no effect on most brokers (MQTT-3.8.4-3); on rmqtt, which ends the plain and
the shared subscription of a topic together, it restores the wanted one.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from mqtt5 import (
    QoS,
    RetainHandling,
    SubAckPacket,
    SubAckReasonCode,
    SubscribePacket,
    TopicFilter,
    UnsubAckPacket,
    UnsubAckReasonCode,
    UnsubscribePacket,
)

from ingestor.mqtt.connection import NetworkConnection
from ingestor.mqtt.reasons import check_suback, check_unsuback, ended
from ingestor.mqtt.requests import Answer, Request
from shared.errors import SubscriptionRefused

ATTEMPTS = 3
"""Attempts, each with other packet ids, while the broker answers that the packet id is in use."""

AnswerOf = Callable[[NetworkConnection, "asyncio.Future[Answer]", str], Awaitable[Answer]]
"""Waits for an answer. Raises BrokerError if the connection ends first or the broker is silent."""


async def subscribe(
    connection: NetworkConnection, wanted: Sequence[str], unwanted: Sequence[str], answer_of: AnswerOf
) -> None:
    """Subscribe to the wanted filters at QoS 1, and unsubscribe from the unwanted ones.

    Raises SubscriptionRefused, after requesting ended subscriptions again, and what `answer_of` raises.
    """
    answers = await _exchange(connection, wanted, unwanted, answer_of)
    unsuback = next((answer for answer in answers if isinstance(answer, UnsubAckPacket)), None)
    try:
        for answer in answers:
            if isinstance(answer, SubAckPacket):
                check_suback(answer, wanted[0])
    except SubscriptionRefused:
        if unsuback is not None and (restored := ended(unsuback, unwanted)):
            connection.ask(_subscribe(connection, restored))  # so that the broker continues to queue messages
        raise
    if unsuback is not None:
        check_unsuback(unsuback, unwanted)


async def _exchange(
    connection: NetworkConnection, wanted: Sequence[str], unwanted: Sequence[str], answer_of: AnswerOf
) -> list[Answer]:
    answers: list[Answer] = []
    for _ in range(ATTEMPTS):
        requests = _requests(connection, wanted, unwanted)
        asked = connection.ask(*requests)
        answers = [await answer_of(connection, *one) for one in zip(asked, map(_name, requests), strict=True)]
        if not any(map(_is_id_in_use, answers)):
            break
        connection.requests.leap()
    return answers


def _requests(connection: NetworkConnection, wanted: Sequence[str], unwanted: Sequence[str]) -> list[Request]:
    requests: list[Request] = [_subscribe(connection, wanted)] if wanted else []
    if unwanted:
        requests.append(UnsubscribePacket(connection.requests.take_id(), list(unwanted)))
        if wanted:
            requests.append(_subscribe(connection, wanted))
    return requests


def _subscribe(connection: NetworkConnection, patterns: Sequence[str]) -> SubscribePacket:
    # A retained message was already delivered when it was published.
    filters = [
        TopicFilter(pattern, max_qos=QoS.AT_LEAST_ONCE, retain_handling=RetainHandling.SEND_NEVER)
        for pattern in patterns
    ]
    return SubscribePacket(connection.requests.take_id(), filters)


def _name(request: Request) -> str:
    return "SUBSCRIBE" if isinstance(request, SubscribePacket) else "UNSUBSCRIBE"


def _is_id_in_use(answer: Answer) -> bool:
    in_use = (SubAckReasonCode.PACKET_ID_IN_USE, UnsubAckReasonCode.PACKET_ID_IN_USE)
    return any(code in in_use for code in answer.reason_codes)
