"""A small MQTT 5 broker in this process that has the peculiarities of real brokers, or that loses a subscription.

It has sessions with plain and shared subscriptions, and delivers messages at QoS 1. It queues nothing for an offline
client, and refuses the connection that reads the broker's figures.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any

import mqtt5
import msgspec
from mqtt5 import (
    ConnAckPacket,
    ConnAckReasonCode,
    ConnectPacket,
    DisconnectPacket,
    PingReqPacket,
    PingRespPacket,
    PubAckPacket,
    PubAckReasonCode,
    PublishPacket,
    QoS,
    SubAckPacket,
    SubAckReasonCode,
    SubscribePacket,
    UnsubAckPacket,
    UnsubAckReasonCode,
    UnsubscribePacket,
)

from tests.scripted_broker import reads_figures

SHARE = "$share/"


class Quirks(msgspec.Struct, frozen=True, kw_only=True):
    """Deviations of the broker from MQTT 5.

    `connack`: properties of its CONNACK.
    `one_form`: like rmqtt, it treats the plain and the shared subscription of a topic as one.
    `one_table_of_ids`: like mochi, it refuses a SUBSCRIBE with the packet id of a delivered message.
    `refuses`: reason code with which it refuses messages. `swallows`: it accepts messages and drops them.
    `restores`: a SUBSCRIBE after `forget` has an effect. Otherwise it is granted without effect.
    """

    connack: Mapping[str, Any] = msgspec.field(default_factory=dict)
    one_form: bool = False
    one_table_of_ids: bool = False
    refuses: PubAckReasonCode | None = None
    swallows: bool = False
    restores: bool = True


_NONE = Quirks()


class Session:
    """Session of one client id."""

    def __init__(self) -> None:
        self.patterns: set[str] = set()
        self.writer: asyncio.StreamWriter | None = None
        self.last_id = 0
        self.in_flight: set[int] = set()


class QuirkyBroker:
    """The broker. `asked`: requests of clients, as text. `published`: topics of messages. `refused`: number of
    refused connections."""

    def __init__(self, quirks: Quirks) -> None:
        self.quirks = quirks
        self.port = 0
        self.asked: list[str] = []
        self.published: list[str] = []
        self.refused = 0
        self.sessions: dict[str, Session] = {}
        self._has_forgotten = False

    @property
    def url(self) -> str:
        """URL for the ingestor."""
        return f"mqtt://127.0.0.1:{self.port}"

    def forget(self) -> None:
        """End every subscription without notice."""
        self._has_forgotten = True
        for session in self.sessions.values():
            session.patterns.clear()

    def deliver(self, topic: str, payload: bytes) -> int:
        """Deliver to every subscribed session, and to one of each group; return the number."""
        count = 0
        groups: set[str] = set()
        for session in self.sessions.values():
            for pattern in session.patterns:
                if not _matches(_plain(pattern), topic) or session.writer is None or pattern in groups:
                    continue
                if pattern.startswith(SHARE):
                    groups.add(pattern)
                count += 1
                session.last_id = session.last_id % 65_535 + 1
                session.in_flight.add(session.last_id)
                message = PublishPacket(topic, payload, qos=QoS.AT_LEAST_ONCE, packet_id=session.last_id)
                session.writer.write(message.write())
        return count

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        unread, session = b"", Session()
        with suppress(ConnectionError):
            while data := await reader.read(65_536):
                unread += data
                while unread:
                    try:
                        packet, size = mqtt5.read(unread)
                    except IndexError:
                        break
                    unread = unread[size:]
                    if reads_figures(packet):
                        self.refused += 1
                        writer.write(ConnAckPacket(reason_code=ConnAckReasonCode.NOT_AUTHORIZED).write())
                    elif isinstance(packet, ConnectPacket):
                        session = self._connect(packet, writer)
                    elif isinstance(packet, DisconnectPacket):
                        writer.close()
                    else:
                        writer.write(self._answer(session, packet))
        if session.writer is writer:
            session.writer = None
        writer.close()

    def _connect(self, packet: ConnectPacket, writer: asyncio.StreamWriter) -> Session:
        present = packet.client_id in self.sessions and not packet.clean_start
        if not present:
            self.sessions[packet.client_id] = Session()
        session = self.sessions[packet.client_id]
        session.writer = writer
        writer.write(ConnAckPacket(session_present=present, **self.quirks.connack).write())
        return session

    def _answer(self, session: Session, packet: mqtt5.Packet) -> bytes:
        match packet:
            case SubscribePacket():
                return self._subscribe(session, packet).write()
            case UnsubscribePacket():
                return self._unsubscribe(session, packet).write()
            case PublishPacket():
                return self._publish(packet)
            case PubAckPacket():
                session.in_flight.discard(packet.packet_id)
            case PingReqPacket():
                return PingRespPacket().write()
        return b""

    def _subscribe(self, session: Session, packet: SubscribePacket) -> SubAckPacket:
        patterns = [one.pattern for one in packet.topic_filters]
        self.asked.append(f"SUBSCRIBE {' '.join(patterns)}")
        if self.quirks.one_table_of_ids and packet.packet_id in session.in_flight:
            return SubAckPacket(packet.packet_id, [SubAckReasonCode.PACKET_ID_IN_USE for _ in patterns])
        if self.quirks.restores or not self._has_forgotten:
            for pattern in patterns:
                self._end(session, pattern)
                session.patterns.add(pattern)
        return SubAckPacket(packet.packet_id, [SubAckReasonCode.GRANTED_QOS_AT_LEAST_ONCE for _ in patterns])

    def _unsubscribe(self, session: Session, packet: UnsubscribePacket) -> UnsubAckPacket:
        self.asked.append(f"UNSUBSCRIBE {' '.join(packet.patterns)}")
        ended = [self._end(session, pattern) for pattern in packet.patterns]
        codes = [UnsubAckReasonCode.SUCCESS if one else UnsubAckReasonCode.NO_SUBSCRIPTION_EXISTED for one in ended]
        return UnsubAckPacket(packet.packet_id, codes)

    def _end(self, session: Session, pattern: str) -> bool:
        found = {
            one
            for one in session.patterns
            if one == pattern or (self.quirks.one_form and _plain(one) == _plain(pattern))
        }
        session.patterns -= found
        return bool(found)

    def _publish(self, packet: PublishPacket) -> bytes:
        self.published.append(packet.topic)
        if packet.packet_id is None:
            return b""
        if self.quirks.refuses is not None:
            return PubAckPacket(packet.packet_id, reason_code=self.quirks.refuses).write()
        delivered = 1 if self.quirks.swallows else self.deliver(packet.topic, packet.payload)
        code = PubAckReasonCode.SUCCESS if delivered else PubAckReasonCode.NO_MATCHING_SUBSCRIBERS
        return PubAckPacket(packet.packet_id, reason_code=code).write()


def _plain(pattern: str) -> str:
    return pattern.split("/", 2)[2] if pattern.startswith(SHARE) else pattern


def _matches(pattern: str, topic: str) -> bool:
    wanted, levels = pattern.split("/"), topic.split("/")
    return len(wanted) == len(levels) and all(one in ("+", level) for one, level in zip(wanted, levels, strict=True))


@asynccontextmanager
async def quirky(quirks: Quirks = _NONE) -> AsyncIterator[QuirkyBroker]:
    """Run the broker on a free port of 127.0.0.1."""
    broker = QuirkyBroker(quirks)
    async with await asyncio.start_server(broker.serve, "127.0.0.1", 0) as server:
        broker.port = server.sockets[0].getsockname()[1]
        yield broker
