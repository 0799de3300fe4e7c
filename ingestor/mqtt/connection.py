"""One network connection to the broker: the layer between the `mqtt5` codec and the event loop.

Bytes are read into one buffer (asyncio.BufferedProtocol), packets are parsed in place, and a PUBLISH is delivered in
the same call, without a task or a queue.

A connection starts *held*: packets after the CONNACK stay in the buffer, and then in the broker, until `release`.
`pause` and `release` also throttle the broker while the writer is behind (ADR 2).
"""

import asyncio
import socket
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, cast

import mqtt5
import structlog
from mqtt5 import (
    ConnAckPacket,
    ConnectPacket,
    DisconnectPacket,
    PingReqPacket,
    PingRespPacket,
    PubAckPacket,
    PublishPacket,
    SubAckPacket,
    UnsubAckPacket,
)

from ingestor.mqtt import packets
from ingestor.mqtt.packets import Delivered, RefusedPublish
from ingestor.mqtt.publish import MalformedPacket
from ingestor.mqtt.requests import Answer, Request, Requests

BUFFER_BYTES = 256 * 1024
"""Size of the read buffer, which grows only for a larger packet."""

KERNEL_BUFFER_BYTES = 128 * 1024
"""Receive buffer of the socket (Linux doubles it). The default is megabytes: if the network fails, the messages in it
are still stored and their acknowledgements are lost, and the journal must identify all of them (ADR 3)."""

_PINGREQ = PingReqPacket().write()
_log = structlog.get_logger()


class NetworkConnection(asyncio.BufferedProtocol):
    """The client's end of an MQTT 5 connection. It calls `deliver` with each PUBLISH.

    `connack` is set by the CONNACK. `closed` is set when the connection has ended: to None, to the broker's DISCONNECT,
    or to the exception that ended it. Pending futures are cancelled then.
    """

    def __init__(self, deliver: Callable[[Delivered], None]) -> None:
        loop = asyncio.get_running_loop()
        self.connack: asyncio.Future[ConnAckPacket] = loop.create_future()
        self.closed: asyncio.Future[DisconnectPacket | None] = loop.create_future()
        self.closed.add_done_callback(_retrieve)
        self.received_at = loop.time()
        self.requests = Requests(loop)
        self._loop = loop
        self._early: deque[Delivered] = deque()  # some brokers deliver before the CONNACK
        self._deliver: Callable[[Delivered], None] = self._early.append
        self._deliver_released = deliver
        self._transport: asyncio.Transport | None = None
        self._farewell: DisconnectPacket | None = None
        self._pings: deque[asyncio.Future[float]] = deque()
        self._held = False
        self._read: Callable[[memoryview], tuple[packets.Packet, int]] = mqtt5.read
        self._view = memoryview(bytearray(BUFFER_BYTES))
        self._start = 0
        self._end = 0

    # asyncio.BufferedProtocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's transports are not of this class
        connected = transport.get_extra_info("socket")
        if connected is not None:
            connected.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, KERNEL_BUFFER_BYTES)

    def get_buffer(self, sizehint: int) -> memoryview:
        if self._end == len(self._view):
            self._make_room()
        return self._view[self._end :]

    def buffer_updated(self, nbytes: int) -> None:
        self._end += nbytes
        self.received_at = self._loop.time()
        self._parse()

    def eof_received(self) -> None:
        """The default: the transport closes itself."""

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._end_with(exc)

    # Calls of the session

    @property
    def is_open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    @property
    def is_paused(self) -> bool:
        """Whether reading is paused, so that silence does not indicate a fault."""
        return self._held

    def send(self, packet: ConnectPacket | DisconnectPacket) -> None:
        """Write the packet, if the connection is open."""
        self._write(packet.write())

    def ask(self, *requests: Request) -> "list[asyncio.Future[Answer]]":
        """Write the requests in one write; return futures of their answers, which the connection's end cancels."""
        answers = [self.requests.add(request) for request in requests]
        if self.closed.done():
            self.requests.cancel()
        self._write(b"".join(request.write() for request in requests))
        return answers

    def ping(self) -> "asyncio.Future[float]":
        """Write a PINGREQ; return a future of the monotonic time of its PINGRESP, in seconds.

        The connection's end cancels the future.
        """
        answered = self._loop.create_future()
        if self.closed.done():
            answered.cancel()
        else:
            self._pings.append(answered)
            self._write(_PINGREQ)
        return answered

    def acknowledge(self, packet_ids: Iterable[int]) -> None:
        """Write a PUBACK for each packet id, in the given order, in one write (MQTT-4.6.0-2)."""
        self._write(b"".join([PubAckPacket(packet_id).write() for packet_id in packet_ids]))

    def pause(self) -> None:
        """Stop reading and parsing."""
        self._held = True
        if self.is_open:
            self._transport.pause_reading()  # type: ignore[union-attr]

    def release(self) -> None:
        """Resume reading and parsing, after `pause` or after the CONNACK."""
        self._held = False
        self.received_at = self._loop.time()  # while reading was paused, the broker was not silent
        self._deliver = self._deliver_released
        self._parse()
        if self.is_open and not self._held:
            self._transport.resume_reading()  # type: ignore[union-attr]

    def discard(self) -> None:
        """Continue to read without delivering messages: the broker will deliver them again."""
        self._deliver_released = _discard
        self._early.clear()
        self.release()

    def close(self) -> None:
        """Flush the written data and close."""
        if self._transport is not None:
            self._transport.close()

    def abort(self, error: BaseException) -> None:
        """Close without flushing, and set `closed` to the error."""
        self._end_with(error)
        if self._transport is not None:
            self._transport.abort()

    # Bytes to packets

    def _parse(self) -> None:
        view, start, end = self._view, self._start, self._end
        try:
            while self._early and self._deliver is self._deliver_released and not self._held:
                self._deliver(self._early.popleft())
            while start < end and not self._held:
                packet: packets.Packet
                try:
                    packet, size = self._read(view[start:end])
                except IndexError:  # the rest of the packet has not arrived
                    break
                except BaseException as error:  # noqa: BLE001  # a panic is not an Exception; other errors are raised again
                    packet, size = packets.refused(view[start:end], error)
                start += size
                if type(packet) is PublishPacket:
                    self._deliver(packet)
                elif isinstance(packet, RefusedPublish):
                    self._refuse(packet)
                else:
                    self._control(packet)
        except Exception as error:  # noqa: BLE001  # `closed` raises it
            self.abort(error)
        finally:
            self._start = start
            if start == self._end:
                self._start = self._end = 0

    def _refuse(self, packet: RefusedPublish) -> None:
        if self._read is mqtt5.read:
            self._read = packets.read_checked  # the broker is likely to deliver more malformed messages
            _log.warning(
                "the broker delivered a malformed message: it becomes a dead letter; later ones are not logged",
                topic=packet.topic,
                fault=packet.detail,
            )
        self._deliver(packet)

    def _control(self, packet: mqtt5.Packet) -> None:
        match packet:
            case ConnAckPacket() if not self.connack.done():
                self.pause()
                self.connack.set_result(packet)
            case DisconnectPacket():
                self._farewell = packet
                self.close()
            case SubAckPacket() | UnsubAckPacket() if self.requests.answer(packet):
                pass
            case PingRespPacket() if self._pings:
                self._pings.popleft().set_result(time.monotonic())
            case _:
                raise MalformedPacket(f"an unexpected {type(packet).__name__}")

    def _make_room(self) -> None:
        rest = self._view[self._start : self._end]
        fits = len(rest) <= BUFFER_BYTES // 2
        room = memoryview(bytearray(BUFFER_BYTES if fits else 2 * len(self._view)))
        room[: len(rest)] = rest
        self._view, self._start, self._end = room, 0, len(rest)

    # The end

    def _write(self, data: bytes) -> None:
        if self._transport is not None and self.is_open:
            self._transport.write(data)

    def _end_with(self, error: BaseException | None) -> None:
        awaited: list[asyncio.Future[Any]] = [self.connack, *self._pings]
        for future in awaited:
            future.cancel()
        self.requests.cancel()
        if self.closed.done():
            return
        if error is not None and self._farewell is None:
            self.closed.set_exception(error)
        else:
            self.closed.set_result(self._farewell)


def _retrieve(closed: "asyncio.Future[DisconnectPacket | None]") -> None:
    """Mark the exception as retrieved: a connection may end while no task waits for its end."""
    closed.exception()


def _discard(message: Delivered) -> None:
    pass
