"""A broker that delivers any bytes of a test, even those that no other broker forwards."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress

import mqtt5
from mqtt5 import (
    ConnAckPacket,
    ConnAckReasonCode,
    ConnectPacket,
    PingReqPacket,
    PingRespPacket,
    PubAckPacket,
    SubAckPacket,
    SubAckReasonCode,
    SubscribePacket,
)

from ingestor.mqtt.publish import DUPLICATE

ACKNOWLEDGED_WITHIN_S = 30
_REFUSAL = ConnAckPacket(reason_code=ConnAckReasonCode.NOT_AUTHORIZED)


def reads_figures(packet: mqtt5.Packet) -> bool:
    """Whether it is the CONNECT of the connection that reads the broker's figures."""
    return isinstance(packet, ConnectPacket) and packet.client_id.startswith("devicestat-figures-")


class ScriptedBroker:
    """Delivers `packets`, each a PUBLISH at QoS 1, to one client; redelivers unacknowledged ones on a new connection.

    It refuses the connection that reads the broker's figures.

    `packets`: by packet id. `connects`: received CONNECT packets.
    """

    def __init__(self, packets: Sequence[bytes]) -> None:
        self.port = 0
        self.connects: list[ConnectPacket] = []
        self._unacknowledged = dict(enumerate(packets, 1))
        self._all_acknowledged = asyncio.Event()

    @property
    def url(self) -> str:
        """URL for the ingestor."""
        return f"mqtt://127.0.0.1:{self.port}"

    async def acknowledged(self) -> None:
        """Wait until each packet is acknowledged, in the order of delivery."""
        async with asyncio.timeout(ACKNOWLEDGED_WITHIN_S):
            await self._all_acknowledged.wait()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        unread = b""
        with suppress(ConnectionError):
            while data := await reader.read(65_536):
                unread += data
                while unread:
                    packet, size = mqtt5.read(unread)
                    unread = unread[size:]
                    writer.write(_REFUSAL.write() if reads_figures(packet) else self._answer(packet))
        writer.close()

    def _answer(self, packet: mqtt5.Packet) -> bytes:
        match packet:
            case ConnectPacket():
                self.connects.append(packet)
                return ConnAckPacket(session_present=len(self.connects) > 1).write()
            case SubscribePacket():
                granted = SubAckPacket(packet.packet_id, [SubAckReasonCode.GRANTED_QOS_AT_LEAST_ONCE])
                return granted.write() + b"".join(map(self._as_sent, self._unacknowledged.values()))
            case PubAckPacket():
                assert packet.packet_id == next(iter(self._unacknowledged)), "in the order of delivery (MQTT-4.6.0-2)"
                del self._unacknowledged[packet.packet_id]
                if not self._unacknowledged:
                    self._all_acknowledged.set()
            case PingReqPacket():
                return PingRespPacket().write()
        return b""

    def _as_sent(self, packet: bytes) -> bytes:
        """Return the packet, with DUP set if it was sent on an earlier connection."""
        return bytes([packet[0] | DUPLICATE]) + packet[1:] if len(self.connects) > 1 else packet


@asynccontextmanager
async def delivering(packets: Sequence[bytes]) -> AsyncIterator[ScriptedBroker]:
    """Run a scripted broker on a free port of 127.0.0.1."""
    broker = ScriptedBroker(packets)
    async with await asyncio.start_server(broker.serve, "127.0.0.1", 0) as server:
        broker.port = server.sockets[0].getsockname()[1]
        yield broker
