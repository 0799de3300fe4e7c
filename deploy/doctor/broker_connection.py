"""The doctor's connection to the broker: MQTT 5, one request at a time.

It uses the codec instead of aiomqtt, which does not expose the properties of CONNACK and the reason codes of PUBACK.
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
from shared.broker.names import DOCTOR_TOPICS, new_client_id
from shared.broker.tls import client_context, why
from shared.errors import BrokerUnreachable, SettingsError
from shared.settings import MqttAddress

ANSWER_S = 10.0
"""Time that the broker may take to answer."""
READ_BYTES = 256 * 1024
MAX_WINDOW = 1000
"""Most messages in flight; the broker's receive maximum may be smaller."""
_PACKET_IDS = 65_535
_FAILURES = 0x80
"""First reason code of a failure (MQTT 5, section 2.4)."""

_Packet = TypeVar("_Packet", ConnAckPacket, SubAckPacket, PubAckPacket, PublishPacket)


class Published(msgspec.Struct):
    """Counts of accepted and refused messages. `words`: the reason of the last refusal."""

    accepted: int = 0
    refused: int = 0
    words: str = ""

    @property
    def answered(self) -> int:
        return self.accepted + self.refused

    def add(self, puback: PubAckPacket) -> None:
        """Count a PUBACK."""
        if puback.reason_code.value < _FAILURES:
            self.accepted += 1
        else:
            self.refused += 1
            self.words = puback.reason_code.name.lower().replace("_", " ")


def own_client_id() -> str:
    """Return a new client id, which takes over no session."""
    return new_client_id("doctor")


def own_topic() -> str:
    """Return a new topic, to which no other client publishes."""
    return DOCTOR_TOPICS.replace("#", uuid.uuid4().hex)


@asynccontextmanager
async def connected(
    address: MqttAddress, client_id: str, *, clean_start: bool = True, expiry_s: int = 0, forget: bool = True
) -> AsyncIterator["BrokerConnection"]:
    """Open a connection for the block. Its session expires after `expiry_s` seconds, or with the block if `forget`.

    Raises BrokerError if the broker is unreachable or refuses the connection; so do the connection's methods.
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
    """An open connection. Each request waits for its answer; messages that arrive meanwhile are kept."""

    def __init__(self, address: MqttAddress, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connack = ConnAckPacket()
        self._address = address
        self._reader = reader
        self._writer = writer
        self._unread = memoryview(b"")
        self._messages: deque[PublishPacket] = deque()

    async def begin(self, client_id: str, *, clean_start: bool, expiry_s: int) -> None:
        """Send CONNECT. Raises ConnectionRefused."""
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
        """Send SUBSCRIBE at QoS 1."""
        handling = RetainHandling.SEND_ALWAYS if retained else RetainHandling.SEND_NEVER
        filters = [TopicFilter(p, max_qos=QoS.AT_LEAST_ONCE, retain_handling=handling) for p in patterns]
        self._write(SubscribePacket(_PACKET_IDS, filters))
        return await self._answer(SubAckPacket)

    async def publish(
        self, topic: str, payload: bytes, *, count: int = 1, within_s: float = ANSWER_S, lifetime_s: int | None = None
    ) -> Published:
        """Publish the payload `count` times at QoS 1, or until `within_s` has passed; return the outcome."""
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
        """Return the next message, by default acknowledged; None if none arrives in time."""
        try:
            async with asyncio.timeout(within_s):
                packet = self._messages.popleft() if self._messages else await self._next(PublishPacket)
        except TimeoutError:
            return None
        if acknowledge and packet.packet_id is not None:
            self.acknowledge(packet.packet_id)
        return packet

    def acknowledge(self, packet_id: int) -> None:
        """Send PUBACK."""
        self._write(PubAckPacket(packet_id))

    def drop(self) -> None:
        """Close the network connection without DISCONNECT, as after a crash or a network failure."""
        self._writer.transport.abort()

    def _write(self, packet: ConnectPacket | SubscribePacket | PublishPacket | PubAckPacket) -> None:
        self._writer.write(packet.write())

    async def _answer(self, kind: type[_Packet]) -> _Packet:
        try:
            async with asyncio.timeout(ANSWER_S):
                return await self._next(kind)
        except TimeoutError as error:
            raise self._fault(f"did not respond within {ANSWER_S:g} s: does it speak MQTT 5?") from error

    async def _next(self, kind: type[_Packet]) -> _Packet:
        """Return the next packet of the kind."""
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
                raise self._fault(f"sent bytes that are no MQTT 5 packet ({error})") from error
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
