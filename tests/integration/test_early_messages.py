"""ActiveMQ Artemis 2.42 delivers before it answers CONNECT, if it resumes a session, against MQTT-3.2.0-1."""

import asyncio
from collections.abc import Callable

import mqtt5
from mqtt5 import ConnAckPacket, ConnectPacket, SubAckPacket, SubAckReasonCode, SubscribePacket

from shared.settings import Settings
from tests.brokers.packets import publish
from tests.conftest import Database
from tests.ingestion import running_ingestor
from tests.scripted_broker import ScriptedBroker

EARLY = 3


class EarlyBroker(ScriptedBroker):
    """Sends its packets before the CONNACK."""

    def _answer(self, packet: mqtt5.Packet) -> bytes:
        match packet:
            case ConnectPacket():
                self.connects.append(packet)
                return b"".join(self._unacknowledged.values()) + ConnAckPacket(session_present=True).write()
            case SubscribePacket():
                return SubAckPacket(packet.packet_id, [SubAckReasonCode.GRANTED_QOS_AT_LEAST_ONCE]).write()
            case _:
                return super()._answer(packet)


async def test_messages_before_the_connack_are_stored(
    make_settings: Callable[..., Settings], database: Database
) -> None:
    await database.execute("INSERT INTO devices (id, key, name) VALUES (1, '1', 'press')")
    payloads = [b'{"x":%d,"y":2,"z":3}' % number for number in range(1, EARLY + 1)]
    early = EarlyBroker([publish(number, "devices/1/stats", payload) for number, payload in enumerate(payloads, 1)])
    async with await asyncio.start_server(early.serve, "127.0.0.1", 0) as server:
        early.port = server.sockets[0].getsockname()[1]
        async with running_ingestor(make_settings(mqtt_url=early.url)):
            await early.acknowledged()
    rows = await (await database.execute("SELECT x FROM readings ORDER BY id")).fetchall()
    assert [x for (x,) in rows] == [1, 2, 3]
