"""Packet ids of SUBSCRIBE and UNSUBSCRIBE, and their answers.

The packet ids of a client and of its server are independent (MQTT 5, section 2.2.1). But mochi keeps them in one table,
and refuses a SUBSCRIBE with the id of a message in flight (0x91, packet identifier in use). So ids are allocated from
65,535 downwards: brokers allocate theirs from 1 upwards.
"""

import asyncio

from mqtt5 import SubAckPacket, SubscribePacket, UnsubAckPacket, UnsubscribePacket

HIGHEST_ID = 65_535
_LEAP = 32_768

Request = SubscribePacket | UnsubscribePacket
Answer = SubAckPacket | UnsubAckPacket


class Requests:
    """The pending requests of one network connection."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._next = HIGHEST_ID
        self._waiting: dict[int, tuple[type[Answer], asyncio.Future[Answer]]] = {}

    def take_id(self) -> int:
        """Return a packet id that no pending request has."""
        taken = self._next
        self._next = taken - 1 or HIGHEST_ID
        return taken

    def leap(self) -> None:
        """Continue in the other half of the ids: the broker's messages in flight have ids near the last one."""
        self._next = (self._next + _LEAP - 1) % HIGHEST_ID + 1

    def add(self, request: Request) -> "asyncio.Future[Answer]":
        """Return the future of the request's answer; the end of the connection cancels it."""
        kind: type[Answer] = SubAckPacket if isinstance(request, SubscribePacket) else UnsubAckPacket
        future: asyncio.Future[Answer] = self._loop.create_future()
        self._waiting[request.packet_id] = kind, future
        return future

    def answer(self, packet: Answer) -> bool:
        """Set the answer. Return False if no request of its kind is pending under its packet id."""
        kind, future = self._waiting.get(packet.packet_id, (None, None))
        if kind is None or future is None or not isinstance(packet, kind):
            return False
        del self._waiting[packet.packet_id]
        if not future.done():
            future.set_result(packet)
        return True

    def cancel(self) -> None:
        """Cancel all pending requests."""
        for _, future in self._waiting.values():
            future.cancel()
        self._waiting.clear()
