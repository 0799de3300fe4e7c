"""Wait for a queued analysis to end, without a connection per request."""

import asyncio

from query_api.access.rules import Principal
from query_api.queue.channels import ENDED as ENDED_CHANNEL
from query_api.queue.records import ENDED, AnalysisRequest, find_shown
from shared.postgres.connections import Pool
from shared.postgres.listening import Notifications


class Waits:
    """The waiting requests of this process. They stop waiting once `stop` is set."""

    def __init__(self, database: Pool, notifications: Notifications, stop: asyncio.Event) -> None:
        self._database = database
        self._notifications = notifications
        self._stop = stop

    async def until_ended(self, queued: AnalysisRequest, seconds: float, principal: Principal) -> AnalysisRequest:
        """Return the request once it has ended or was deleted, or its state after the given seconds."""
        stopping = asyncio.create_task(self._stop.wait(), name="wait for the stop")
        try:
            with self._notifications.subscribe(ENDED_CHANNEL, str(queued.id)) as ended:
                deadline = asyncio.get_running_loop().time() + seconds
                seen = await self._look(queued, principal)  # it may have ended before the subscription
                while seen is not None and seen.status not in ENDED:
                    queued = seen
                    if not await _next(ended, stopping, deadline):
                        return queued
                    seen = await self._look(queued, principal)
                return seen or queued
        finally:
            stopping.cancel()

    async def _look(self, queued: AnalysisRequest, principal: Principal) -> AnalysisRequest | None:
        async with self._database.connection() as connection:
            return await find_shown(connection, queued.id, principal)


async def _next(ended: asyncio.Queue[str], stopping: asyncio.Task[bool], deadline: float) -> bool:
    """Wait for a notification; False if the deadline or the stop comes first."""
    received = asyncio.create_task(ended.get(), name="wait for a notification")
    try:
        left = deadline - asyncio.get_running_loop().time()
        await asyncio.wait({received, stopping}, timeout=max(left, 0), return_when=asyncio.FIRST_COMPLETED)
        return received.done()
    finally:
        received.cancel()
