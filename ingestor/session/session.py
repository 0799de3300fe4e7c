"""The ingestor's session with the broker, over any number of network connections.

A session outlives its connections (Clean Start 0, expiry in days): the broker redelivers messages that were not
acknowledged. The steps after each CONNACK are (ADR 2, ADR 3):

1. the connection is held, so nothing is delivered yet;
2. if the broker has lost a session of which the journal has packets, the new session and the journal are discarded, and
   the ingestor connects again;
3. messages of earlier connections are committed;
4. the connection is released, and the broker redelivers unacknowledged messages;
5. SUBSCRIBE, each time: Mosquitto loses shared subscriptions when it restarts. If the session may be subscribed to
   another filter, such as the other form of the topic, plain or shared, UNSUBSCRIBE follows (ADR 35).
"""

import asyncio
from collections.abc import Set
from functools import partial
from typing import TypeVar

import structlog
from mqtt5 import ConnAckPacket, ConnectPacket, DisconnectPacket

from ingestor.collector import Collector
from ingestor.metrics import Counts
from ingestor.mqtt.connection import NetworkConnection
from ingestor.mqtt.lifetime import connect, keep_alive, silent_s, why_ended
from ingestor.mqtt.reasons import check_connack
from ingestor.session.contention import HELD_S, Contention
from ingestor.session.limits import SESSION_EXPIRY_S, LimitsLog
from ingestor.session.processes import SHARE, other_form
from ingestor.session.subscribing import subscribe
from ingestor.session.subscription_check import SubscriptionCheck
from ingestor.session.subscriptions import Subscriptions
from ingestor.storing.writer import Writer
from shared.backoff import backoff
from shared.errors import (
    BrokerError,
    BrokerNotThere,
    BrokerUnreachable,
    ClientIdContended,
    ConnectionClosed,
    ConnectionRefused,
    SessionTakenOver,
    StaleConnection,
    SubscriptionRefused,
)
from shared.postgres.starting import Patience
from shared.serving.telemetry import Health
from shared.settings import Settings

KEEP_ALIVE_S = 30
HANDSHAKE_TIMEOUT_S = 10
"""Time that the broker may be silent while it owes an answer."""
POLL_S = 1.0
DISCONNECT_TIMEOUT_S = 2
"""Time to wait for the end of a connection, so that written packets are sent."""
CUT_OFF = 3
"""First connections that may end before the broker has answered: an ingestor whose session is taken over reconnects
once, before it stops."""
LOOKS = 5
"""Reads of the journal, every POLL_S, to find an ingestor that has taken over the session."""
STEADY_S = 10
"""Duration of a connection after which the delay before the next attempt is reset."""
MAX_PACKET_BYTES = 16 * 1024 * 1024
"""A broker silently drops larger packets (MQTT-3.1.2-25). This is twice the limit for devices in mosquitto.conf, so the
ingestor receives every message that this broker accepts, if only to refuse it as too large."""

WIDEST_WINDOW = 32_767
"""Receive Maximum while a new message is needed behind the redelivered ones (ADR 34), which may fill a smaller window.
It is the largest MQTT_WINDOW."""

_log = structlog.get_logger()
_Answer = TypeVar("_Answer")


class Session:
    """Connects, subscribes, and reconnects with jittered backoff."""

    def __init__(
        self,
        settings: Settings,
        collector: Collector,
        writer: Writer,
        subscriptions: Subscriptions,
        counts: Counts,
        health: Health,
        check: type[SubscriptionCheck] | partial[SubscriptionCheck] = SubscriptionCheck,
    ) -> None:
        self._address = settings.broker
        self._client_id = settings.mqtt_client_id
        self._pattern = settings.mqtt_topic.pattern
        self._other_pattern = other_form(settings)
        self._window = settings.mqtt_window
        self._limits = LimitsLog(settings)
        self._collector = collector
        self._writer = writer
        self._counts = counts
        self._health = health
        self._subscriptions = subscriptions
        self._check = check(settings, collector, counts, health, self._subscribe_again)
        self._connection: NetworkConnection | None = None
        self._stopping = False
        self._was_connected = False
        self._cut_offs = 0
        self._was_subscribed = False
        self._contention = Contention(self._address, self._client_id)
        self._limit = settings.start_timeout

    @property
    def is_connected(self) -> bool:
        """Whether the broker has answered on a connection that is open."""
        connection = self._connection
        return connection is not None and connection.is_open and connection.connack.done()

    @property
    def probe_is_forbidden(self) -> bool:
        """Whether the broker refuses the probe of the subscription."""
        return self._check.is_forbidden

    async def run(self) -> None:
        """Run until `disconnect`.

        Raises BrokerError if the first connection or the first subscription fails, and SessionTakenOver at any time.
        Later failures are logged and retried. The first connection to a broker that is unreachable or busy is retried
        up to START_TIMEOUT.
        """
        waits, now = backoff(), asyncio.get_running_loop().time
        self._patience = Patience(self._limit)
        while not self._stopping:
            began = now()
            try:
                connection = await self._open()
                _log.info("subscribed", broker=str(self._address), topic=self._pattern)
                await self._settle(connection)
                await self._attend(connection)
            except BrokerError as fault:
                if self._stopping:
                    return
                error = await self._judge(fault, now() - began)
                if self._is_fatal(error):
                    raise error from fault.__cause__
                if now() - began > STEADY_S:
                    waits = backoff()
                self._health.not_ready("broker", str(error))
                delay = max(next(waits), self._contention.pause_s)
                event = "broker lost" if self._was_connected else "waiting for the broker"
                _log.warning(event, error=str(error), retry_in_s=round(delay, 2))
                await asyncio.sleep(delay)

    async def _settle(self, connection: NetworkConnection) -> None:
        """Report ready, and start the check of the subscription.

        While another client is suspected of using the client id, wait until the connection has lasted HELD_S.
        """
        if self._contention.is_suspected:
            await asyncio.wait([connection.closed], timeout=HELD_S)
            if connection.closed.done():
                return
            self._contention.forget()
        if not self._check.is_deaf:
            self._health.ready("broker")
        self._check.attend(connection)

    async def _judge(self, error: BrokerError, held_s: float) -> BrokerError:
        """Return SessionTakenOver if another ingestor took over, ClientIdContended if a foreign client did."""
        if isinstance(error, ConnectionClosed) and error.taken_over and await self._is_replaced():
            return SessionTakenOver(self._client_id)
        return self._contention.judge(error, held_s)

    async def _is_replaced(self) -> bool:
        for _ in range(LOOKS):
            if await self._writer.is_replaced():
                return True
            await asyncio.sleep(POLL_S)
        return False

    def _is_fatal(self, error: BrokerError) -> bool:
        match error:
            case SessionTakenOver():
                return True
            case StaleConnection() | ClientIdContended():
                return False
            case SubscriptionRefused():
                return not self._was_subscribed
            case BrokerNotThere() | ConnectionRefused(reason="server unavailable" | "server busy"):
                return not self._was_connected and self._patience.is_over
        return not (self._was_connected or self._may_come_again(error))

    def _may_come_again(self, error: BrokerError) -> bool:
        """Whether a failure at startup may be temporary.

        Most failures at startup are caused by wrong settings. But if the broker ended the connection, the ingestor
        whose session is taken over may have reconnected.
        """
        cut_off = self._connection is not None and self._connection.closed.done()
        self._cut_offs += cut_off
        return cut_off and isinstance(error, BrokerUnreachable) and self._cut_offs <= CUT_OFF

    async def disconnect(self) -> None:
        """Send DISCONNECT and end `run`. The broker keeps the session."""
        self._stopping = True
        connection = self._connection
        if connection is not None and connection.is_open:
            await self._end(connection, DisconnectPacket())

    async def _open(self) -> NetworkConnection:
        await self._writer.prepare_session()
        self._connection = None
        connection = self._connection = await connect(self._address, self._collector.deliver, HANDSHAKE_TIMEOUT_S)
        try:
            await self._handshake(connection)
        except BrokerError:
            connection.close()
            raise
        return connection

    async def _handshake(self, connection: NetworkConnection) -> None:
        connection.send(
            ConnectPacket(
                self._client_id,
                username=self._address.username,
                password=self._address.password.encode() if self._address.password is not None else None,
                clean_start=False,
                keep_alive=KEEP_ALIVE_S,
                session_expiry_interval=SESSION_EXPIRY_S,
                receive_max=WIDEST_WINDOW if self._writer.needs_next else self._window,
                max_packet_size=MAX_PACKET_BYTES,
            )
        )
        try:
            connack = await self._answer(connection, connection.connack, "CONNECT")
        except BrokerError:
            self._writer.miss_session()
            raise
        check_connack(connack, self._address)
        self._limits.note(connack)
        seconds = connack.server_keep_alive or KEEP_ALIVE_S  # MQTT-3.2.2-21: the broker's has precedence
        keep_alive(connection, seconds)
        if not connack.session_present and self._writer.remembers:
            await self._begin_anew(connection)
        await self._collector.drain()
        await self._writer.begin_session()
        self._collector.attach(connection)
        self._was_connected = True
        connection.release()
        await self._subscribe(connection, connack)

    async def _begin_anew(self, connection: NetworkConnection) -> None:
        # End the new session before the journal is voided: its packet ids must not be compared with the old session's.
        await self._end(connection, DisconnectPacket(session_expiry_interval=0))
        await self._collector.drain()
        await self._writer.forget_session()
        raise StaleConnection(f"the MQTT broker at {self._address} has lost the session of {self._client_id!r}")

    async def _end(self, connection: NetworkConnection, farewell: DisconnectPacket) -> None:
        connection.send(farewell)
        connection.close()
        await asyncio.wait([connection.closed], timeout=DISCONNECT_TIMEOUT_S)

    def _topics(self, known: Set[str]) -> tuple[list[str], list[str]]:
        """Return the filters to subscribe to, and the filters to unsubscribe from.

        `known`: filters that the session may be subscribed to; empty if unknown.
        """
        return [self._pattern], sorted(known - {self._pattern}) if known else [self._other_pattern]

    async def _subscribe(self, connection: NetworkConnection, connack: ConnAckPacket) -> None:
        known = await self._subscriptions.load()
        wanted, unwanted = self._topics(known)
        if not connack.session_present:
            unwanted = []
        if not connack.shared_subscription_available:
            unwanted = [pattern for pattern in unwanted if not pattern.startswith(SHARE)]
        if wanted and known != set(wanted):
            await self._subscriptions.add(wanted)
        await subscribe(connection, wanted, unwanted, self._answer)
        if not known.issubset(wanted):
            await self._subscriptions.keep(wanted)
        self._was_subscribed = True

    async def _subscribe_again(self, connection: NetworkConnection) -> None:
        await subscribe(connection, [self._pattern], [], self._answer)

    async def _answer(self, connection: NetworkConnection, answer: "asyncio.Future[_Answer]", to: str) -> _Answer:
        while not answer.done():
            await asyncio.wait([answer], timeout=POLL_S)
            if not connection.is_paused and silent_s(connection) > HANDSHAKE_TIMEOUT_S:
                raise BrokerUnreachable(
                    f"the MQTT broker at {self._address} did not respond to {to} within {HANDSHAKE_TIMEOUT_S} s: "
                    "does it support MQTT 5?"
                )
        if answer.cancelled():
            await self._attend(connection)
            raise BrokerUnreachable(f"the connection to the MQTT broker at {self._address} was closed")
        return answer.result()

    async def _attend(self, connection: NetworkConnection) -> None:
        """Wait for the end of the connection, and raise its reason unless `disconnect` ended it."""
        error = await why_ended(connection, self._address)
        if not self._stopping:
            raise error
