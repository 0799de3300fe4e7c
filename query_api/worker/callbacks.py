"""Send the callbacks that are due (`query_api/queue/callbacks.py`)."""

import asyncio
import time
from collections.abc import Callable

import structlog

from query_api.access.rules import ANYBODY
from query_api.calendar.json_times import encode
from query_api.queue import callbacks as queue
from query_api.queue.callbacks import Due
from query_api.queue.records import ENDED, QueuedAnalysis, find_shown
from query_api.queue.retries import Retries
from query_api.worker.metrics import WorkerMetrics
from query_api.worker.webhook import Undelivered, Webhook
from shared.postgres.connections import RETRYABLE, Connection, Pool
from shared.postgres.errors import diagnose

CONCURRENCY = 16
"""Concurrent calls of one worker."""
MAX_ERROR_LENGTH = 500

_log = structlog.get_logger()


class Callbacks:
    """Sends due callbacks, up to CONCURRENCY at a time. `ended` is called after each."""

    def __init__(
        self,
        database: Pool,
        webhook: Webhook,
        tasks: asyncio.TaskGroup,
        metrics: WorkerMetrics,
        ended: Callable[[], None],
        retries: Retries = queue.RETRIES,
    ) -> None:
        self._database = database
        self._webhook = webhook
        self._tasks = tasks
        self._metrics = metrics
        self._ended = ended
        self._retries = retries
        self._in_progress: set[asyncio.Task[None]] = set()
        self._after = ""

    async def begin(self, connection: Connection) -> None:
        """Start due callbacks, up to CONCURRENCY in progress."""
        room = CONCURRENCY - len(self._in_progress)
        for due in await queue.claim(connection, room, self._after) if room else ():
            self._after = due.host
            task = self._tasks.create_task(self._make(due), name=f"callback {due.id}")
            self._in_progress.add(task)
            task.add_done_callback(self._done)

    async def end(self, patience: float) -> None:
        """Wait for the calls in progress up to `patience` seconds, then leave the rest to their leases."""
        if self._in_progress:
            await asyncio.wait(self._in_progress, timeout=patience)
        left = set(self._in_progress)
        for task in left:
            task.cancel()
        if left:
            await asyncio.wait(left)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._in_progress.discard(task)
        self._ended()

    async def _make(self, due: Due) -> None:
        began = time.perf_counter()
        try:
            outcome = await self._attempt(due)
        except RETRYABLE as error:
            outcome = "abandoned"
            _log.warning(
                "the outcome of a callback could not be stored: it will be sent again",
                id=due.request_id,
                reason=str(diagnose(error)),
            )
        self._metrics.callbacks.labels(outcome).inc()
        self._metrics.callback_seconds.observe(time.perf_counter() - began)

    async def _attempt(self, due: Due) -> str:
        """Send the callback and write its end. Returns the outcome. Raises one of RETRYABLE if it cannot be written."""
        async with self._database.connection() as connection:
            request = await find_shown(connection, due.request_id, ANYBODY)
        if request is None or request.status not in ENDED:  # it was deleted, or is retried
            return "gone"
        try:
            await self._webhook.send(due.url, str(due.message_id), int(time.time()), body(request))
        except Undelivered as error:
            return await self._failed(due, str(error))
        async with self._database.connection() as connection:
            await queue.delivered(connection, due)
        return "delivered"

    async def _failed(self, due: Due, error: str) -> str:
        _log.warning("a callback failed", id=due.request_id, attempt=due.attempts, reason=error)
        async with self._database.connection() as connection:
            status = await queue.fail(connection, due, error.replace("\0", "")[:MAX_ERROR_LENGTH], self._retries)
        return "failed" if status == "failed" else "retried"


def body(request: QueuedAnalysis) -> bytes:
    """Return the body of a call: the request with its result, without its callbacks."""
    fields = QueuedAnalysis.__struct_fields__
    return encode(QueuedAnalysis(**{name: getattr(request, name) for name in fields}))
