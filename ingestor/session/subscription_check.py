"""Whether the subscription brings messages: tried while none comes, and mended (ADR 35).

A broker can end a subscription without a word, and the connection stays alive. So after a silence an empty message is
published to a topic of the subscription (`probe`). Any message that is delivered then, the probe or a device's, proves
that the subscription works. Where none is, the ingestor is not ready, subscribes again, and tries again.

Where the probe can tell nothing, the ingestor subscribes again at each silence, which mends a subscription as well:
the broker refuses the probe, or a shared subscription may have brought it to another member.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

import structlog

from ingestor.collector import Collector
from ingestor.metrics import Counts
from ingestor.mqtt.connection import NetworkConnection
from ingestor.processes import SHARE
from ingestor.session.probe import CannotTell, Forbidden, Sent, send_probe
from shared.broker.names import probe_topic
from shared.errors import BrokerError, SubscriptionRefused
from shared.serving.telemetry import Health
from shared.settings import Settings, parse_topic_filter

FIRST_SILENCE_S = 10.0
"""After a connection began."""
SILENCE_S = 60.0
"""After that; while the subscription works, twice as long each time, as long as silence lasts."""
LONGEST_SILENCE_S = 600.0
LOOK_S = 1.0
POLL_S = 0.1
"""How often the count of messages is looked at: in general, and once a probe is sent."""
DELIVERED_WITHIN_S = 10.0
"""How long the broker may take from its PUBACK of the probe to the probe's delivery."""

_log = structlog.get_logger()


class SubscriptionCheck:
    """The check of one session, over all of its connections. `subscribe` sends SUBSCRIBE once more."""

    def __init__(
        self,
        settings: Settings,
        collector: Collector,
        counts: Counts,
        health: Health,
        subscribe: Callable[[NetworkConnection], Awaitable[None]],
    ) -> None:
        form = parse_topic_filter(settings.mqtt_topic)
        self._address = settings.broker
        self._pattern = settings.mqtt_topic
        self._is_shared = settings.mqtt_topic.startswith(SHARE)
        self._topic = probe_topic(form)
        self._collector = collector
        self._counts = counts
        self._health = health
        self._subscribe = subscribe
        self._was_delivered = False  # a probe, at least once
        self._is_swallowed = False  # the broker takes probes and delivers other messages only
        self._is_refused = False  # the latest SUBSCRIBE
        self._untold: set[str] = set()
        self.is_deaf = False
        self.is_forbidden = False  # the latest probe

    def attend(self, connection: NetworkConnection) -> None:
        """Check as long as the connection holds; should that fail, the connection ends with its error."""
        task = asyncio.create_task(self._run(connection), name="subscription check")
        connection.closed.add_done_callback(lambda _: task.cancel())

        def ended(task: "asyncio.Task[None]") -> None:
            if not task.cancelled() and (error := task.exception()):
                connection.abort(error)

        task.add_done_callback(ended)

    async def _run(self, connection: NetworkConnection) -> None:
        silence_s = 0.0 if self.is_deaf else FIRST_SILENCE_S
        while not connection.closed.done():
            if await self._is_silent(connection, silence_s):
                await self._check(connection)
                silence_s = SILENCE_S if self.is_deaf else min(max(SILENCE_S, 2 * silence_s), LONGEST_SILENCE_S)
            else:
                silence_s = SILENCE_S

    async def _is_silent(self, connection: NetworkConnection, seconds: float) -> bool:
        """Whether nothing is delivered for so long. All before is acknowledged then: a full window delays a probe."""
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
        if await self._is_told(connection):
            return
        if not self.is_deaf:
            self._note_deaf()
        if await self._subscribed_again(connection):
            await self._is_told(connection)

    async def _is_told(self, connection: NetworkConnection) -> bool:
        """Probe. False where the subscription brings nothing; where the probe cannot tell, subscribe again."""
        try:
            is_delivered = await self._probe()
        except CannotTell as reason:
            self._note_untold(reason)
            was_refused = self._is_refused
            if await self._subscribed_again(connection) and was_refused:
                self._works()
            return True
        return is_delivered

    async def _probe(self) -> bool:
        """Whether a probe, or another message, is delivered. Raises CannotTell."""
        if self._is_swallowed:
            raise CannotTell(f"the broker takes messages to {self._topic} and does not deliver them")
        delivered, empty = self._counts.messages, self._counts.empty
        sent = await send_probe(self._address, self._topic)
        self.is_forbidden = False
        with suppress(TimeoutError):
            async with asyncio.timeout(DELIVERED_WITHIN_S):
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
            raise CannotTell(f"{self._pattern} may have brought a message to {self._topic} to another of its members")
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
        """A message that is delivered while the probes were not, and never were: they say nothing."""
        if self.is_deaf and not self._is_refused:
            self._is_swallowed = not self._was_delivered
        self._works()

    def _works(self) -> None:
        if self.is_deaf:
            self.is_deaf = False
            self._health.ready("broker")
            _log.info("the subscription brings messages again", topic=self._pattern)

    def _note_deaf(self) -> None:
        self._set_deaf(
            f"the subscription to {self._pattern} brings nothing: the broker has accepted a message to {self._topic} "
            "and has not delivered it. The ingestor subscribes again"
        )

    def _set_deaf(self, why: str) -> None:
        self.is_deaf = True
        self._health.not_ready("broker", why)
        _log.warning("not subscribed any more", reason=why)

    def _note_untold(self, reason: CannotTell) -> None:
        """Log each reason once: a broker that forbids the probe does so at each silence."""
        self.is_forbidden = isinstance(reason, Forbidden)
        if str(reason) not in self._untold:
            self._untold.add(str(reason))
            log = _log.warning if self.is_forbidden else _log.info
            log(
                "it cannot be told in silence whether the subscription works: it is renewed instead", reason=str(reason)
            )
