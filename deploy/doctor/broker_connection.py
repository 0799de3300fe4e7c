"""The doctor's connection to the broker: MQTT 5, one question after the other.

It is on the codec and not on aiomqtt, which keeps to itself what the doctor is here for: the properties of the
CONNACK and the reason codes of PUBACKs.
"""

import asyncio
import time
import uuid
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import TypeVar

import mqtt5
import msgspec
from mqtt5 import (
    ConnAckPacket,
    ConnectPacket,
    DisconnectPacket,
    PubAckPacket,
    PublishPacket,
    QoS,
    RetainHandling,
    SubAckPacket,
    SubscribePacket,
    TopicFilter,
)

from ingestor.mqtt.reasons import check_connack, describe
from shared.broker.names import DOCTOR_TOPICS
from shared.broker.tls import client_context, why
from shared.errors import BrokerUnreachable, SettingsError
from shared.settings import MqttAddress

ANSWER_S = 10.0
"""How long the broker may take to answer."""
READ_BYTES = 256 * 1024
MAX_WINDOW = 1000
"""So many messages are unacknowledged at once, or as many as the broker takes."""
_PACKET_IDS = 65_535
_FAILURES = 0x80
"""Reason codes from here on are of failures (MQTT 5, section 2.4)."""

_Packet = TypeVar("_Packet", ConnAckPacket, SubAckPacket, PubAckPacket, PublishPacket)


class Published(msgspec.Struct):
    """How many messages the broker took, and with what words it refused one of the others."""

    accepted: int = 0
    refused: int = 0
    words: str = ""

    @property
    def answered(self) -> int:
        return self.accepted + self.refused

    def add(self, puback: PubAckPacket) -> None:
        """Counts an answer."""
        if puback.reason_code.value < _FAILURES:
            self.accepted += 1
        else:
            self.refused += 1
            self.words = puback.reason_code.name.lower().replace("_", " ")


def own_client_id() -> str:
    """A client id that nobody has, so that no session is taken over."""
    return f"devicestat-doctor-{uuid.uuid4().hex[:12]}"


def own_topic() -> str:
    """A topic that nobody else publishes to."""
    return DOCTOR_TOPICS.replace("#", uuid.uuid4().hex)


@asynccontextmanager
async def connected(
    address: MqttAddress, client_id: str, *, clean_start: bool = True, expiry_s: int = 0, forget: bool = True
) -> AsyncIterator["BrokerConnection"]:
    """A connection whose session the broker keeps for `expiry_s` seconds, or, to `forget`, only until its end.

    Raises BrokerError where the broker cannot be reached or refuses; so do the connection's methods.
    """
    async with _streams(address) as (reader, writer):
        connection = BrokerConnection(address, reader, writer)
        await connection.begin(client_id, clean_start=clean_start, expiry_s=expiry_s)
        try:
            yield connection
        finally:
            farewell = DisconnectPacket(session_expiry_interval=0) if forget else DisconnectPacket()
            writer.write(farewell.write())


@asynccontextmanager
async def _streams(address: MqttAddress) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    try:
        async with asyncio.timeout(ANSWER_S):
            if address.unix_socket:
                reader, writer = await asyncio.open_unix_connection(address.unix_socket)
            else:
                tls = client_context(address.files) if address.tls else None
                reader, writer = await asyncio.open_connection(address.host, address.port, ssl=tls)
    except SettingsError as error:
        raise BrokerUnreachable(str(error)) from error
    except OSError as error:  # TimeoutError and ssl.SSLError are of this kind
        advice = "is it running, and is DEVICESTAT_MQTT_URL right?"
        raise BrokerUnreachable(f"no connection at {address} ({why(error)}): {advice}") from error
    try:
        yield reader, writer
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


class BrokerConnection:
    """What has been asked is answered before the next question; messages that come in between are kept."""

    def __init__(self, address: MqttAddress, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connack = ConnAckPacket()
        self._address = address
        self._reader = reader
        self._writer = writer
        self._unread = memoryview(b"")
        self._messages: deque[PublishPacket] = deque()

    async def begin(self, client_id: str, *, clean_start: bool, expiry_s: int) -> None:
        """CONNECT. Raises ConnectionRefused."""
        password = self._address.password
        self._write(
            ConnectPacket(
                client_id,
                username=self._address.username,
                password=None if password is None else password.encode(),
                clean_start=clean_start,
                session_expiry_interval=expiry_s,
            )
        )
        self.connack = await self._answer(ConnAckPacket)
        check_connack(self.connack, self._address)

    async def subscribe(self, *patterns: str, retained: bool = False) -> SubAckPacket:
        """SUBSCRIBE at QoS 1."""
        handling = RetainHandling.SEND_ALWAYS if retained else RetainHandling.SEND_NEVER
        filters = [TopicFilter(p, max_qos=QoS.AT_LEAST_ONCE, retain_handling=handling) for p in patterns]
        self._write(SubscribePacket(_PACKET_IDS, filters))
        return await self._answer(SubAckPacket)

    async def publish(
        self, topic: str, payload: bytes, *, count: int = 1, within_s: float = ANSWER_S, lifetime_s: int | None = None
    ) -> Published:
        """Publishes the payload at QoS 1 so many times, or as often as there is time; returns what became of them."""
        window, ends = min(self.connack.receive_max, MAX_WINDOW), time.monotonic() + within_s
        published, sent = Published(), 0
        while sent < count and time.monotonic() < ends:
            if sent - published.answered == window:
                published.add(await self._answer(PubAckPacket))
            sent += 1
            self._write(
                PublishPacket(
                    topic,
                    payload,
                    qos=QoS.AT_LEAST_ONCE,
                    packet_id=sent % _PACKET_IDS + 1,
                    message_expiry_interval=lifetime_s,
                )
            )
        while published.answered < sent:
            published.add(await self._answer(PubAckPacket))
        return published

    async def message(self, within_s: float, *, acknowledge: bool = True) -> PublishPacket | None:
        """The next message, acknowledged unless `acknowledge` is false; None if none comes in time."""
        try:
            async with asyncio.timeout(within_s):
                packet = self._messages.popleft() if self._messages else await self._next(PublishPacket)
        except TimeoutError:
            return None
        if acknowledge and packet.packet_id is not None:
            self.acknowledge(packet.packet_id)
        return packet

    def acknowledge(self, packet_id: int) -> None:
        """PUBACK."""
        self._write(PubAckPacket(packet_id))

    def drop(self) -> None:
        """End the network connection at once, without DISCONNECT, as a crash or a dead network does."""
        self._writer.transport.abort()

    def _write(self, packet: ConnectPacket | SubscribePacket | PublishPacket | PubAckPacket) -> None:
        self._writer.write(packet.write())

    async def _answer(self, kind: type[_Packet]) -> _Packet:
        try:
            async with asyncio.timeout(ANSWER_S):
                return await self._next(kind)
        except TimeoutError as error:
            raise self._fault(f"did not answer within {ANSWER_S:g} s: does it speak MQTT 5?") from error

    async def _next(self, kind: type[_Packet]) -> _Packet:
        """The next packet of the kind."""
        while True:
            packet = await self._packet()
            if isinstance(packet, kind):
                return packet
            if isinstance(packet, PublishPacket):
                self._messages.append(packet)
            elif isinstance(packet, DisconnectPacket):
                raise self._fault(f"disconnected us: {describe(packet)}")

    async def _packet(self) -> mqtt5.Packet:
        while True:
            try:
                packet, size = mqtt5.read(self._unread)
            except IndexError:  # the rest of it has not arrived
                await self._read()
            except ValueError as error:
                raise self._fault(f"sent what is no MQTT 5 packet ({error})") from error
            else:
                self._unread = self._unread[size:]
                return packet

    async def _read(self) -> None:
        try:
            data = await self._reader.read(READ_BYTES)
        except OSError as error:
            raise self._fault(f"broke the connection ({why(error)})") from error
        if not data:
            raise self._fault("closed the connection: does it speak MQTT 5?")
        self._unread = memoryview(bytes(self._unread) + data)

    def _fault(self, what: str) -> BrokerUnreachable:
        return BrokerUnreachable(f"the broker at {self._address} {what}")
