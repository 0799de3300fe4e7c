"""What the broker still holds for a process that is gone: stored, and then its session is ended.

A process that is not started again, since there are fewer now, leaves a session behind: the broker goes on dealing
messages out to it, and nobody would take them. So the subscription is ended first, then all that waits is taken
in the ordinary way, and last the session and its journal are given up.
"""

import asyncio
import socket
from collections.abc import Set

import structlog
from mqtt5 import DisconnectPacket

from ingestor.delivery import journal as journals
from ingestor.mqtt.connection import NetworkConnection
from ingestor.processes import Share, departed, draining_clock, member
from ingestor.service import Ingestor, ingest
from ingestor.session.session import HANDSHAKE_TIMEOUT_S, Session
from shared.postgres.connections import connect, refusals_translated
from shared.postgres.starting import first_connection
from shared.readings.clock import Clock
from shared.settings import Settings

QUIET_S = 1.0

_log = structlog.get_logger()


async def ingest_as(
    settings: Settings, number: int, count: int, stop: asyncio.Event, listener: socket.socket | None = None
) -> None:
    """`ingest` as one of so many; the first takes before that what was left by those that are gone.

    A `listener` for health and metrics comes from the command that runs them all, and has done that itself.
    """
    if number == 1 and listener is None:
        await retire_departed(settings, count, stop)
    if not stop.is_set():
        await ingest(member(settings, number, count), stop, listener, Share(number, count))


async def retire_departed(settings: Settings, count: int, stop: asyncio.Event) -> None:
    """Ends the sessions of processes that are not among so many. Raises what `ingest` raises."""
    async with first_connection(settings, "ingestor start", stop) as connection:
        if connection is None:
            return
        with refusals_translated():
            numbers = await departed(connection, settings, count)
    async with asyncio.TaskGroup() as group:
        for position, number in enumerate(numbers):
            clock = draining_clock(position, len(numbers))
            group.create_task(_retire(member(settings, number, number), clock, stop), name=f"process {number} leaves")


async def _retire(settings: Settings, clock: Clock, stop: asyncio.Event) -> None:
    _log.info("a process that is gone left a session: storing what waits in it", client_id=settings.mqtt_client_id)
    ingestor = Ingestor(settings, DrainingSession, clock)
    await ingestor.run(stop)
    if stop.is_set():
        return  # the next start goes on with it
    async with await connect(settings.database, "ingestor") as connection:
        with refusals_translated():
            await journals.give_up(connection, settings.mqtt_client_id)


class DrainingSession(Session):
    """A session that takes what waits for it, and ends."""

    def _topics(self, known: Set[str]) -> tuple[list[str], list[str]]:
        return [], sorted(known or {self._pattern, self._other_pattern})

    async def _settle(self, _: NetworkConnection) -> None:
        """Nothing is to come any more: it has no subscription to check."""

    async def _attend(self, connection: NetworkConnection) -> None:
        while not (connection.closed.done() or await self._is_empty(connection)):
            pass
        if not connection.closed.done():
            self._stopping = True
            await self._end(connection, DisconnectPacket(session_expiry_interval=0))
        await super()._attend(connection)

    async def _is_empty(self, connection: NetworkConnection) -> bool:
        """Whether nothing has come until the answer to a PINGREQ that was sent after our last acknowledgement.

        A broker has room for what it still holds once it reads the acknowledgements, and so sends that first; it is
        given a moment for it.
        """
        delivered = self._counts.messages
        await self._collector.settle()
        await asyncio.wait([connection.closed], timeout=QUIET_S)
        answered = connection.ping()
        await asyncio.wait({answered}, timeout=HANDSHAKE_TIMEOUT_S)
        if not answered.done():
            connection.abort(TimeoutError(f"no answer to a PINGREQ within {HANDSHAKE_TIMEOUT_S} s"))
        return not answered.cancelled() and self._counts.messages == delivered
