"""The figures that the broker publishes about itself, over a connection of their own (ADR 48).

The connection is there only while the session is connected, and no fault of it affects the session or ends the process.
Each time it is made in two steps:

1. Without Clean Start and with the session expiry of the ingestor's session, to see that the broker uses the client id
   that it was given. If a session is present, the broker has replaced the random client id, as Mosquitto does with
   `use_username_as_clientid`: it is the ingestor's session. Clean Start would delete it with its queue.
2. With Clean Start, so that the broker keeps nothing after the connection. It subscribes at QoS 0.
"""

import asyncio
import ipaddress
import socket
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import TypeVar

import structlog
from mqtt5 import (
    ConnAckPacket,
    ConnectPacket,
    DisconnectPacket,
    PublishPacket,
    QoS,
    SubscribePacket,
    TopicFilter,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from ingestor.mqtt.connection import NetworkConnection
from ingestor.mqtt.lifetime import connect, keep_alive, why_ended
from ingestor.mqtt.packets import Delivered
from ingestor.mqtt.reasons import check_connack
from ingestor.session.limits import SESSION_EXPIRY_S
from shared.backoff import backoff
from shared.broker.names import new_client_id
from shared.errors import BrokerUnreachable
from shared.settings import MqttAddress
from shared.status.broker import TOPICS, figures_of
from shared.status.figures import BrokerFigures, BrokerReport, BrokerSource

ANSWER_S = 10.0
"""Time that the broker may take to answer."""
SILENT_S = 30.0
"""Time without any figure after which the connection is closed."""
AGAIN_S = 600.0
"""Time until the next attempt on a broker that publishes no figures, and the longest one after other failures."""
LOOK_S = 1.0
"""Interval of looks at the session."""
KEEP_ALIVE_S = 30
MAX_PACKET_BYTES = 16_384
_FIRST_FAILURE = 0x80
"""First reason code of a failure (MQTT 5, section 2.4)."""

_log = structlog.get_logger()
_Answer = TypeVar("_Answer")


class _ClientIdReplaced(Exception):
    """The broker gives a session of another client id."""


class BrokerFiguresReader(Collector):
    """Reads the figures. It is also the collector of their metrics, of which there are none while they are unknown.

    `window`: MQTT_WINDOW. `is_wanted`: whether the session is connected.
    """

    def __init__(self, address: MqttAddress, window: int, is_wanted: Callable[[], bool]) -> None:
        self._address = address
        self._window = window
        self._is_wanted = is_wanted
        self._messages: dict[str, bytes] = {}
        self._is_subscribed = False
        self._has_failed = False

    def report(self) -> BrokerReport:
        """Return the newest figures."""
        return BrokerReport(
            address=_place(self._address), window=self._window, source=self._source, figures=self._figures
        )

    @property
    def _source(self) -> BrokerSource:
        if self._messages:
            return BrokerSource.READ
        return BrokerSource.NOT_PUBLISHED if self._is_subscribed else BrokerSource.NOT_CONNECTED

    @property
    def _figures(self) -> BrokerFigures | None:
        return figures_of(self._messages) if self._messages else None

    def collect(self) -> Iterable[Metric]:
        figures = self._figures or BrokerFigures()
        name = "devicestat_broker_messages_"
        if figures.waiting is not None:
            yield GaugeMetricFamily(f"{name}waiting", "Messages that wait for clients of the broker", figures.waiting)
        if figures.waiting_bytes is not None:
            text = "Bytes of payload of all messages in the broker"
            yield GaugeMetricFamily(f"{name}waiting_bytes", text, figures.waiting_bytes)
        if figures.dropped is not None:
            text = "Messages that the broker has dropped for its clients since it started"
            yield CounterMetricFamily(f"{name}dropped", text, figures.dropped)

    async def run(self) -> None:
        """Read until cancelled. It raises nothing, and ends if the broker replaces client ids."""
        waits = backoff(LOOK_S, AGAIN_S)
        while True:
            if not self._is_wanted():
                await asyncio.sleep(LOOK_S)
                continue
            try:
                await self._check_client_id()
                await self._read()
            except _ClientIdReplaced:
                _log.warning(
                    "the broker's figures are not read: it replaces client ids, so a second connection of this user "
                    "ends the first. Remove use_username_as_clientid from the ingestor's listener"
                )
                return
            except Exception as error:  # noqa: BLE001  # whatever it is, the ingestor goes on
                self._failed(error)
            if self._messages:
                waits = backoff(LOOK_S, AGAIN_S)
                self._messages.clear()
            await asyncio.sleep(AGAIN_S if self._is_subscribed else next(waits))

    def _failed(self, error: Exception) -> None:
        self._is_subscribed = False
        if self._messages or not self._has_failed:
            _log.info("the broker's figures cannot be read", reason=str(error))
        self._has_failed = True

    async def _check_client_id(self) -> None:
        """Raise _ClientIdReplaced if the broker has a session for a new random client id."""
        async with self._connection() as connection:
            connack = await self._handshake(connection, clean_start=False, expiry_s=SESSION_EXPIRY_S)
            if connack.session_present:
                connection.abort(_ClientIdReplaced())  # without DISCONNECT: the session remains
                raise _ClientIdReplaced

    async def _read(self) -> None:
        """Collect figures until the connection ends. Raises BrokerError; returns if the broker publishes none."""
        self._is_subscribed = False
        async with self._connection() as connection:
            connack = await self._handshake(connection, clean_start=True, expiry_s=0)
            keep_alive(connection, connack.server_keep_alive or KEEP_ALIVE_S)
            connection.release()
            is_granted = await self._subscribe(connection)
            self._is_subscribed = True
            if is_granted:
                await asyncio.wait([connection.closed], timeout=SILENT_S)
            if self._messages or connection.closed.done():
                raise await why_ended(connection, self._address)

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[NetworkConnection]:
        """Open a connection for the block; its session ends with it."""
        connection = await connect(self._address, self._take, ANSWER_S)
        try:
            yield connection
        finally:
            connection.send(DisconnectPacket(session_expiry_interval=0))
            connection.close()

    async def _handshake(self, connection: NetworkConnection, *, clean_start: bool, expiry_s: int) -> ConnAckPacket:
        password = self._address.password
        connection.send(
            ConnectPacket(
                new_client_id("figures"),
                username=self._address.username,
                password=None if password is None else password.encode(),
                clean_start=clean_start,
                keep_alive=KEEP_ALIVE_S,
                session_expiry_interval=expiry_s,
                max_packet_size=MAX_PACKET_BYTES,
            )
        )
        connack = await self._answer(connection, connection.connack, "CONNECT")
        check_connack(connack, self._address)
        return connack

    async def _subscribe(self, connection: NetworkConnection) -> bool:
        """Subscribe at QoS 0, with the retained figures. Return whether the broker has granted any topic."""
        filters = [TopicFilter(topic, max_qos=QoS.AT_MOST_ONCE) for topic in TOPICS]
        (asked,) = connection.ask(SubscribePacket(connection.requests.take_id(), filters))
        answer = await self._answer(connection, asked, "SUBSCRIBE")
        return any(code.value < _FIRST_FAILURE for code in answer.reason_codes)

    async def _answer(self, connection: NetworkConnection, answer: "asyncio.Future[_Answer]", to: str) -> _Answer:
        await asyncio.wait([answer], timeout=ANSWER_S)
        if answer.cancelled():
            raise await why_ended(connection, self._address)
        if not answer.done():
            raise BrokerUnreachable(f"the MQTT broker at {self._address} did not respond to {to} within {ANSWER_S:g} s")
        return answer.result()

    def _take(self, message: Delivered) -> None:
        if isinstance(message, PublishPacket) and message.topic in TOPICS:
            self._has_failed = False
            self._messages[message.topic] = message.payload


def _place(address: MqttAddress) -> str:
    """Return the address, with the name of this host if it is on this host."""
    return f"{address} on {socket.gethostname()}" if address.unix_socket or _is_loopback(address.host) else str(address)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
