"""Test and repair of a subscription that delivers no messages (ADR 35).

A broker can end a subscription silently while the connection stays alive. So after a silence the ingestor publishes an
empty message to a topic of the subscription (`probe`). Any message that is delivered then, the probe or a device's,
proves that the subscription works. If none is delivered, the ingestor is not ready, subscribes again, and probes again.

A probe is inconclusive if the broker refuses it, or if a shared subscription may have delivered it to another member.
Then the ingestor subscribes again at each silence, which also repairs a subscription.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

import msgspec
import structlog

from ingestor.collector import Collector
from ingestor.metrics import Counts
from ingestor.mqtt.connection import NetworkConnection
from ingestor.mqtt.lifetime import run_until_closed
from ingestor.session.probe import CannotProbe, Forbidden, Sent, send_probe
from shared.broker.names import probe_topic
from shared.errors import BrokerError, SubscriptionRefused
from shared.serving.telemetry import Health
from shared.settings import MqttAddress, Settings

LOOK_S = 1.0
POLL_S = 0.1
"""Intervals at which the count of messages is read: in general, and after a probe."""

_log = structlog.get_logger()


class CheckTiming(msgspec.Struct, frozen=True):
    """Times of the check, in seconds."""

    first_silence_s: float = 10.0
    """Silence before the first probe of a connection."""
    silence_s: float = 60.0
    """Silence before later probes. It doubles with each probe while the subscription works and the silence lasts."""
    longest_silence_s: float = 600.0
    delivered_within_s: float = 10.0
    """Time from the PUBACK of the probe to its delivery."""


TIMING = CheckTiming()


class SubscriptionCheck:
    """The check of one session, over all of its connections. `subscribe` sends SUBSCRIBE."""

    def __init__(
        self,
        settings: Settings,
        collector: Collector,
        counts: Counts,
        health: Health,
        subscribe: Callable[[NetworkConnection], Awaitable[None]],
        *,
        timing: CheckTiming = TIMING,
        send: Callable[[MqttAddress, str], Awaitable[Sent]] = send_probe,
    ) -> None:
        self._timing = timing
        self._send = send
        form = settings.mqtt_topic
        self._address = settings.broker
        self._pattern = form.pattern
        self._is_shared = bool(form.group)
        self._topic = probe_topic(form)
        self._collector = collector
        self._counts = counts
        self._health = health
        self._subscribe = subscribe
        self._was_delivered = False  # at least one probe
        self._is_swallowed = False  # the broker accepts probes and does not deliver them, but delivers other messages
        self._is_refused = False  # the last SUBSCRIBE
        self._logged: set[str] = set()  # reasons why a probe was inconclusive
        self.is_deaf = False
        self.is_forbidden = False  # the last probe

    def attend(self, connection: NetworkConnection) -> None:
        """Check until the connection ends."""
        run_until_closed(connection, self._run(connection), "subscription check")

    async def _run(self, connection: NetworkConnection) -> None:
        silence_s = 0.0 if self.is_deaf else self._timing.first_silence_s
        shortest_s, longest_s = self._timing.silence_s, self._timing.longest_silence_s
        while not connection.closed.done():
            if await self._is_silent(connection, silence_s):
                await self._check(connection)
                silence_s = shortest_s if self.is_deaf else min(max(shortest_s, 2 * silence_s), longest_s)
            else:
                silence_s = shortest_s

    async def _is_silent(self, connection: NetworkConnection, seconds: float) -> bool:
        """Wait for a silence of this length; return False if a message is delivered.

        Earlier messages are acknowledged then, because a full window would delay a probe.
        """
        now, delivered = asyncio.get_running_loop().time, self._counts.messages
        ends = now() + seconds
        while (remaining := ends - now()) > 0:
            await asyncio.sleep(min(remaining, LOOK_S))
            if self._counts.messages != delivered:
                self._note_message()
                return False
        await self._collector.settle()
        return delivered == self._counts.messages and not connection.is_paused

    async def _check(self, connection: NetworkConnection) -> None:
        if await self._probe_or_renew(connection):
            return
        if not self.is_deaf:
            self._note_deaf()
        if await self._subscribed_again(connection):
            await self._probe_or_renew(connection)

    async def _probe_or_renew(self, connection: NetworkConnection) -> bool:
        """Probe; if that is inconclusive, subscribe again. Return False if the subscription delivers nothing."""
        try:
            is_delivered = await self._probe()
        except CannotProbe as reason:
            self._note_inconclusive(reason)
            was_refused = self._is_refused
            if await self._subscribed_again(connection) and was_refused:
                self._works()
            return True
        return is_delivered

    async def _probe(self) -> bool:
        """Send a probe; return whether it, or another message, is delivered. Raises CannotProbe."""
        if self._is_swallowed:
            raise CannotProbe(f"the broker accepts messages to {self._topic} and does not deliver them")
        delivered, empty = self._counts.messages, self._counts.empty
        sent = await self._send(self._address, self._topic)
        self.is_forbidden = False
        with suppress(TimeoutError):
            async with asyncio.timeout(self._timing.delivered_within_s):
                while self._counts.empty == empty:  # noqa: ASYNC110  # an event would cost each message
                    await asyncio.sleep(POLL_S)
        if self._counts.empty != empty:
            self._was_delivered = True
            self._works()
            return True
        if self._counts.messages != delivered:
            self._note_message()
            return True
        if self._is_shared and sent is Sent.TAKEN:
            raise CannotProbe(f"{self._pattern} may have delivered a message to {self._topic} to another member")
        return False

    async def _subscribed_again(self, connection: NetworkConnection) -> bool:
        try:
            await self._subscribe(connection)
        except SubscriptionRefused as error:
            self._is_refused = True
            self._set_deaf(str(error))
            return False
        except BrokerError as error:
            if not connection.closed.done():
                connection.abort(TimeoutError(str(error)))
            return False
        self._is_refused = False
        return True

    def _note_message(self) -> None:
        """Note a delivered message. If no probe was ever delivered, the broker does not deliver probes."""
        if self.is_deaf and not self._is_refused:
            self._is_swallowed = not self._was_delivered
        self._works()

    def _works(self) -> None:
        if self.is_deaf:
            self.is_deaf = False
            self._health.ready("broker")
            _log.info("the subscription delivers messages again", topic=self._pattern)

    def _note_deaf(self) -> None:
        self._set_deaf(
            f"the subscription to {self._pattern} delivers nothing: the broker accepted a message to {self._topic} "
            "and did not deliver it. The ingestor subscribes again"
        )

    def _set_deaf(self, why: str) -> None:
        self.is_deaf = True
        self._health.not_ready("broker", why)
        _log.warning("the subscription is lost", reason=why)

    def _note_inconclusive(self, reason: CannotProbe) -> None:
        """Log each reason once: a broker that refuses the probe does so at each silence."""
        self.is_forbidden = isinstance(reason, Forbidden)
        if str(reason) not in self._logged:
            self._logged.add(str(reason))
            log = _log.warning if self.is_forbidden else _log.info
            log("cannot test the subscription while no messages arrive; renewing it instead", reason=str(reason))
