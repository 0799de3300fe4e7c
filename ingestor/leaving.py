"""What the broker still holds for a process that is gone: stored, and then its session is ended.

A process that is not started again, since there are fewer now, leaves a session behind: the broker goes on dealing
messages out to it, and nobody would take them. So the subscription is ended first, then all that waits is taken
in the ordinary way, and last the session and its journal are given up.
"""

import asyncio

import structlog
from mqtt5 import DisconnectPacket

from ingestor.connection import NetworkConnection
from ingestor.processes import departed, member
from ingestor.service import Ingestor, ingest
from ingestor.session import HANDSHAKE_TIMEOUT_S, Receiver, Session
from shared.database import connect, refusals_translated
from shared.migrate import check_schema
from shared.settings import Settings
from shared.telemetry import Health

_log = structlog.get_logger()


async def ingest_alone(settings: Settings, stop: asyncio.Event) -> None:
    """`ingest`, once what was left by several processes has been taken."""
    await retire_departed(settings, 1, stop)
    if not stop.is_set():
        await ingest(settings, stop)


async def retire_departed(settings: Settings, count: int, stop: asyncio.Event) -> None:
    """Ends the sessions of processes that are not among so many. Raises what `ingest` raises."""
    async with await connect(settings.database, "ingestor") as connection:
        await check_schema(connection)
        with refusals_translated():
            numbers = await departed(connection, settings, count)
    async with asyncio.TaskGroup() as group:
        for number in numbers:
            group.create_task(_retire(member(settings, number, number), stop), name=f"process {number} leaves")


_GIVE_UP = "DELETE FROM ingest_journal WHERE client_id = %s"


async def _retire(settings: Settings, stop: asyncio.Event) -> None:
    _log.info("a process that is gone left a session: storing what waits in it", client_id=settings.mqtt_client_id)
    ingestor = Ingestor(settings, LeavingSession)
    await ingestor.run(stop)
    if stop.is_set():
        return  # the next start goes on with it
    async with await connect(settings.database, "ingestor") as connection:
        with refusals_translated():
            await connection.execute(_GIVE_UP, (settings.mqtt_client_id,))


class LeavingSession(Session):
    """A session that takes what waits for it, and ends."""

    def __init__(self, settings: Settings, receiver: Receiver, health: Health) -> None:
        super().__init__(settings, receiver, health)
        self._unwanted.append(settings.mqtt_topic)

    async def _subscribe(self, connection: NetworkConnection) -> None:
        """Not any more."""

    async def _attend(self, connection: NetworkConnection) -> None:
        while not (connection.closed.done() or await self._is_empty(connection)):
            pass
        if not connection.closed.done():
            self._stopping = True
            connection.send(DisconnectPacket(session_expiry_interval=0))
            connection.close()
        await super()._attend(connection)

    async def _is_empty(self, connection: NetworkConnection) -> bool:
        """Whether nothing has come until the answer to a PINGREQ that was sent after our last acknowledgement.

        A broker has room for what it still holds once it reads the acknowledgements, and so sends that first.
        """
        delivered = self._receiver.delivered
        await self._receiver.drain()
        answered = connection.ping()
        await asyncio.wait({answered}, timeout=HANDSHAKE_TIMEOUT_S)
        if not answered.done():
            connection.abort(TimeoutError(f"no answer to a PINGREQ within {HANDSHAKE_TIMEOUT_S} s"))
        return not answered.cancelled() and self._receiver.delivered == delivered
