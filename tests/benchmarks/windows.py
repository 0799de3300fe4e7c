"""A broker with a small window, like rmqtt: 16 messages in flight.

Its messages wait, so what is measured is how soon the ingestor acknowledges. The peer is the same ingestor with
BATCH_LINGER_MS at 50, which was the default while batches were written by the clock.
"""

import asyncio
import time
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from functools import partial

import mqtt5
import psycopg
from mqtt5 import (
    ConnAckPacket,
    ConnectPacket,
    PingReqPacket,
    PingRespPacket,
    PubAckPacket,
    PublishPacket,
    QoS,
    SubAckPacket,
    SubAckReasonCode,
    SubscribePacket,
)

from deploy.local.postgres import EmbeddedPostgres
from shared.settings import Settings
from tests.benchmarks.pairs import Finding, Ratio, alternate
from tests.benchmarks.servers import clear
from tests.ingestion import IngestorProcess
from tests.ports import free_port

WINDOW = 16
MESSAGES = {0: 5_000, 50: 1_000}
"""Messages of a run, by BATCH_LINGER_MS."""
DEADLINE_S = 120.0
_PAYLOAD = b'{"x":1,"y":2,"z":3}'


def measure(postgres: EmbeddedPostgres) -> Iterator[Finding]:
    """Measure messages a second through a window of 16."""
    with psycopg.connect(postgres.url, autocommit=True) as database:
        ours, before = alternate(partial(_drain, postgres, database, 0), partial(_drain, postgres, database, 50))
        name = f"a backlog in a broker with a window of {WINDOW}, to rows"
        yield Ratio(name, "BATCH_LINGER_MS=50", "messages/s", ours, before, ">= 10")


def _drain(postgres: EmbeddedPostgres, database: psycopg.Connection, linger_ms: int) -> float:
    clear(database)
    return asyncio.run(_rate(postgres, linger_ms))


async def _rate(postgres: EmbeddedPostgres, linger_ms: int) -> float:
    waiting = _Waiting(MESSAGES[linger_ms])
    async with await asyncio.start_server(waiting.serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        settings = Settings(
            database_url=postgres.url,
            mqtt_url=f"mqtt://127.0.0.1:{port}",
            ingestor_metrics_port=free_port(),
            batch_linger_ms=linger_ms,
        )
        ingestor = IngestorProcess(settings)
        try:
            return await asyncio.wait_for(waiting.rate(), DEADLINE_S)
        finally:
            await ingestor.end()


class _Waiting:
    """A broker with queued messages for one client."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._waiting = deque(range(count))
        self._in_flight: set[int] = set()
        self._last_id = 0
        self._acknowledged = 0
        self._began = 0.0
        self._done = asyncio.Event()

    async def rate(self) -> float:
        """Measure messages a second, from the subscription to the acknowledgement of all but the last few."""
        await self._done.wait()
        return (self._count - WINDOW) / (time.monotonic() - self._began)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        unread = b""
        with suppress(ConnectionError):
            while data := await reader.read(65_536):
                unread += data
                answers = []
                while unread:
                    packet, size = mqtt5.read(unread)
                    unread = unread[size:]
                    answers.append(self._answer(packet))
                writer.write(b"".join(answers) + self._deliver())
        writer.close()

    def _answer(self, packet: mqtt5.Packet) -> bytes:
        match packet:
            case ConnectPacket():
                return ConnAckPacket().write()
            case SubscribePacket():
                self._began = time.monotonic()
                return SubAckPacket(packet.packet_id, [SubAckReasonCode.GRANTED_QOS_AT_LEAST_ONCE]).write()
            case PubAckPacket():
                self._in_flight.discard(packet.packet_id)
                self._acknowledged += 1
                if (
                    self._acknowledged == self._count - WINDOW
                ):  # the acknowledgement of the last ones is delayed (ADR 34)
                    self._done.set()
            case PingReqPacket():
                return PingRespPacket().write()
        return b""

    def _deliver(self) -> bytes:
        packets = []
        while self._began and self._waiting and len(self._in_flight) < WINDOW:
            self._waiting.popleft()
            self._last_id = self._last_id % 65_535 + 1
            self._in_flight.add(self._last_id)
            packets.append(PublishPacket("devices/1/stats", _PAYLOAD, qos=QoS.AT_LEAST_ONCE, packet_id=self._last_id))
        return b"".join(packet.write() for packet in packets)
