"""Draining of the session of a removed ingestor process.

After the number of processes is reduced, the broker keeps distributing messages to the sessions of the removed ones. So
the first process ends such a subscription, stores the queued messages in the ordinary way, and then ends the session
and its journal.
"""

import asyncio
import socket
from collections.abc import Set

import structlog
from mqtt5 import DisconnectPacket

from ingestor.delivery import journal as journals
from ingestor.mqtt.connection import NetworkConnection
from ingestor.service import Ingestor, ingest
from ingestor.session.processes import Share, departed, draining_clock, member
from ingestor.session.session import HANDSHAKE_TIMEOUT_S, Session
from shared.postgres.connections import connect, refusals_translated
from shared.postgres.starting import first_connection
from shared.readings.announce import Interest
from shared.readings.clock import Clock
from shared.settings import Settings

QUIET_S = 1.0

_log = structlog.get_logger()


async def ingest_as(
    settings: Settings, number: int, count: int, stop: asyncio.Event, listener: socket.socket | None = None
) -> None:
    """Run `ingest` as one of several processes. The first one drains the sessions of removed processes before.

    `listener`: socket for health and metrics, given by the command that runs all processes and has drained them itself.
    """
    if number == 1 and listener is None:
        await retire_departed(settings, count, stop)
    if not stop.is_set():
        await ingest(member(settings, number, count), stop, listener, Share(number, count))


async def retire_departed(settings: Settings, count: int, stop: asyncio.Event) -> None:
    """Drain the sessions of removed processes. `count`: processes that remain. Raises what `ingest` raises."""
    async with first_connection(settings.database, "ingestor start", settings.start_timeout, stop) as connection:
        if connection is None:
            return
        with refusals_translated():
            numbers = await departed(connection, settings, count)
    async with asyncio.TaskGroup() as group:
        for position, number in enumerate(numbers):
            clock = draining_clock(position, len(numbers))
            group.create_task(_retire(member(settings, number, number), clock, stop), name=f"drain process {number}")


async def _retire(settings: Settings, clock: Clock, stop: asyncio.Event) -> None:
    _log.info("draining the session of a removed process", client_id=settings.mqtt_client_id)
    ingestor = Ingestor(settings, DrainingSession, clock, Interest())
    await ingestor.run(stop)
    if stop.is_set():
        return  # the next start continues
    async with await connect(settings.database, "ingestor") as connection:
        with refusals_translated():
            await journals.give_up(connection, settings.mqtt_client_id)


class DrainingSession(Session):
    """A session that unsubscribes, receives its queued messages, and ends."""

    def _topics(self, known: Set[str]) -> tuple[list[str], list[str]]:
        return [], sorted(known or {self._pattern, self._other_pattern})

    async def _settle(self, _: NetworkConnection) -> None:
        """Do nothing: there is no subscription to check."""

    async def _attend(self, connection: NetworkConnection) -> None:
        while not (connection.closed.done() or await self._is_empty(connection)):
            pass
        if not connection.closed.done():
            self._stopping = True
            await self._end(connection, DisconnectPacket(session_expiry_interval=0))
        await super()._attend(connection)

    async def _is_empty(self, connection: NetworkConnection) -> bool:
        """Whether no message is delivered before the answer to a PINGREQ that follows the last acknowledgement.

        A broker sends queued messages when it reads the acknowledgements, and so before its answer. QUIET_S gives it
        time to do so.
        """
        delivered = self._counts.messages
        await self._collector.settle()
        await asyncio.wait([connection.closed], timeout=QUIET_S)
        answered = connection.ping()
        await asyncio.wait({answered}, timeout=HANDSHAKE_TIMEOUT_S)
        if not answered.done():
            connection.abort(TimeoutError(f"no response to a PINGREQ within {HANDSHAKE_TIMEOUT_S} s"))
        return not answered.cancelled() and self._counts.messages == delivered
