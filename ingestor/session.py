"""The ingestor's session with the broker, over as many network connections as it takes.

A session outlives its connections (Clean Start 0, expiry in days): what the broker could not deliver, or
was not told the end of, it delivers again. The order after each CONNACK is fixed (ADR 2, ADR 3):

1. the connection is held, so that nothing is delivered yet;
2. the receiver finishes what came over earlier connections, and learns whether the session is still there;
3. the connection is released, and what was not acknowledged comes again;
4. SUBSCRIBE, each time: Mosquitto forgets shared subscriptions over its own restart;
5. UNSUBSCRIBE the other form of the topic, plain or shared, if the session was once one of the other kind.
"""

import asyncio
import ssl
from typing import Protocol, TypeVar

import structlog
from mqtt5 import (
    ConnectPacket,
    DisconnectPacket,
    DisconnectReasonCode,
    PublishPacket,
    QoS,
    RetainHandling,
    SubscribePacket,
    TopicFilter,
    UnsubscribePacket,
)

from ingestor.connection import MalformedPacket, NetworkConnection
from ingestor.processes import other_form
from ingestor.reasons import check_connack, check_suback, describe
from shared.backoff import backoff
from shared.errors import BrokerError, BrokerUnreachable, SessionTakenOver, SubscriptionRefused
from shared.settings import Settings
from shared.telemetry import Health

KEEP_ALIVE_S = 30
HANDSHAKE_TIMEOUT_S = 10
DISCONNECT_TIMEOUT_S = 2
"""So long the end of a connection is waited for: what was written before it has gone out."""
STEADY_S = 10
"""A connection that held so long was a good one: the next attempt after it comes soon."""
SESSION_EXPIRY_S = 7 * 24 * 3600
"""How long the broker keeps the session, and queues for it, while the ingestor is away."""

_log = structlog.get_logger()
_Answer = TypeVar("_Answer")


class Receiver(Protocol):
    """Who takes what the session delivers."""

    async def begin(self, connection: NetworkConnection, *, session_present: bool) -> None:
        """A new connection: returns when nothing of an earlier one is under way any more."""

    def deliver(self, packet: PublishPacket) -> None:
        """A message, on the connection that `begin` named last."""

    async def drain(self) -> None:
        """Returns when all that was delivered is committed and acknowledged."""

    @property
    def delivered(self) -> int:
        """Grows with each message."""


class Session:
    """Keeps the session alive: connects, subscribes, and connects again with jittered backoff."""

    def __init__(self, settings: Settings, receiver: Receiver, health: Health) -> None:
        self._address = settings.broker
        self._client_id = settings.mqtt_client_id
        self._pattern = settings.mqtt_topic
        self._unwanted = [other_form(settings)]
        self._window = settings.mqtt_window
        self._receiver = receiver
        self._health = health
        self._connection: NetworkConnection | None = None
        self._stopping = False
        self._was_connected = False
        self._was_subscribed = False

    async def run(self) -> None:
        """Until `disconnect`.

        Raises BrokerError where the first connection or the first subscription fails, and SessionTakenOver at
        any time. Later failures are logged and tried again.
        """
        waits, now = backoff(), asyncio.get_running_loop().time
        while not self._stopping:
            began = now()
            try:
                connection = await self._open()
                self._health.ready("broker")
                _log.info("subscribed", broker=str(self._address), topic=self._pattern)
                await self._attend(connection)
            except BrokerError as error:
                if self._stopping:
                    return
                if isinstance(error, SessionTakenOver) or self._is_fatal(error):
                    raise
                if now() - began > STEADY_S:
                    waits = backoff()
                self._health.not_ready("broker", str(error))
                delay = next(waits)
                _log.warning("broker lost", error=str(error), retry_in_s=round(delay, 2))
                await asyncio.sleep(delay)

    def _is_fatal(self, error: BrokerError) -> bool:
        """At the start a failure is a fault of the settings more often than of the network."""
        refused = isinstance(error, SubscriptionRefused)
        return not self._was_subscribed if refused else not self._was_connected

    async def disconnect(self) -> None:
        """Ends the connection in good order, and `run`. The broker keeps the session."""
        self._stopping = True
        connection = self._connection
        if connection is not None and connection.is_open:
            connection.send(DisconnectPacket())
            connection.close()
            await asyncio.wait([connection.closed], timeout=DISCONNECT_TIMEOUT_S)

    async def _open(self) -> NetworkConnection:
        connection = self._connection = await self._connect()
        try:
            await self._handshake(connection)
        except BrokerError:
            connection.close()
            raise
        return connection

    async def _connect(self) -> NetworkConnection:
        loop, address = asyncio.get_running_loop(), self._address

        def protocol() -> NetworkConnection:
            return NetworkConnection(self._receiver.deliver)

        try:
            async with asyncio.timeout(HANDSHAKE_TIMEOUT_S):
                if address.unix_socket:
                    _, connection = await loop.create_unix_connection(protocol, address.unix_socket)
                else:
                    tls = ssl.create_default_context() if address.tls else None
                    _, connection = await loop.create_connection(protocol, address.host, address.port, ssl=tls)
        except OSError as error:  # TimeoutError and ssl.SSLError are of this kind
            raise BrokerUnreachable(
                f"no connection to the MQTT broker at {address}: {_cause(error)}. "
                "Is it running, and is DEVICESTAT_MQTT_URL right?"
            ) from error
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
                receive_max=self._window,
            )
        )
        connack = await self._answer(connection, connection.connack, "CONNECT")
        check_connack(connack, self._address)
        seconds = connack.server_keep_alive or KEEP_ALIVE_S  # MQTT-3.2.2-21: the broker's, where it has one
        self._keep_alive(connection, seconds)
        await self._receiver.begin(connection, session_present=connack.session_present)
        self._was_connected = True
        connection.release()
        await self._subscribe(connection)
        if connack.session_present and connack.shared_subscription_available:
            await self._unsubscribe(connection)

    async def _subscribe(self, connection: NetworkConnection) -> None:
        # Retained messages are copies of what was delivered when it was published: never counted twice.
        subscription = TopicFilter(self._pattern, max_qos=QoS.AT_LEAST_ONCE, retain_handling=RetainHandling.SEND_NEVER)
        connection.send(SubscribePacket(1, [subscription]))
        check_suback(await self._answer(connection, connection.suback, "SUBSCRIBE"), self._pattern)
        self._was_subscribed = True

    async def _unsubscribe(self, connection: NetworkConnection) -> None:
        connection.send(UnsubscribePacket(2, self._unwanted))
        await self._answer(connection, connection.unsuback, "UNSUBSCRIBE")

    def _keep_alive(self, connection: NetworkConnection, seconds: int) -> None:
        """Has it done for as long as the connection holds; should that fail, the connection ends with its error."""
        task = asyncio.create_task(_keep_alive(connection, seconds), name="mqtt keep-alive")
        connection.closed.add_done_callback(lambda _: task.cancel())

        def ended(task: "asyncio.Task[None]") -> None:
            if not task.cancelled() and (error := task.exception()):
                connection.abort(error)

        task.add_done_callback(ended)

    async def _answer(self, connection: NetworkConnection, answer: "asyncio.Future[_Answer]", to: str) -> _Answer:
        await asyncio.wait([answer], timeout=HANDSHAKE_TIMEOUT_S)
        if answer.done() and not answer.cancelled():
            return answer.result()
        if connection.closed.done():
            await self._attend(connection)
        raise BrokerUnreachable(
            f"the MQTT broker at {self._address} did not answer {to} within {HANDSHAKE_TIMEOUT_S} s: "
            "does it speak MQTT 5?"
        )

    async def _attend(self, connection: NetworkConnection) -> None:
        """Waits for the connection's end, and says why it ended."""
        try:
            farewell = await asyncio.shield(connection.closed)
        except OSError as error:
            raise BrokerUnreachable(f"the connection to the MQTT broker at {self._address} broke: {error}") from error
        except MalformedPacket as error:
            raise BrokerUnreachable(f"the MQTT broker at {self._address} sent a malformed packet: {error}") from error
        if self._stopping:
            return
        if farewell is None:
            raise BrokerUnreachable(f"the MQTT broker at {self._address} closed the connection")
        if farewell.reason_code == DisconnectReasonCode.SESSION_TAKEN_OVER:
            raise SessionTakenOver(self._client_id)
        raise BrokerUnreachable(f"the MQTT broker at {self._address} disconnected us: {describe(farewell)}")


async def _keep_alive(connection: NetworkConnection, seconds: int) -> None:
    """Pings, also while reading is paused; gives up on a broker that is silent while it is not."""
    while True:
        await asyncio.sleep(seconds / 2)
        silent_s = asyncio.get_running_loop().time() - connection.heard_at
        if silent_s > 1.5 * seconds and not connection.is_paused:
            connection.abort(TimeoutError(f"not a word for {silent_s:.0f} s"))
        connection.ping()


def _cause(error: OSError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted ({error.verify_message})"
    return error.strerror or str(error) or "it took too long"
