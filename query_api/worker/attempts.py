"""The analyses in progress in a worker: each is a task with a lease, and ends in one statement."""

import asyncio
import time
from collections.abc import Callable
from uuid import UUID

import structlog

from query_api.queue import claims as queue
from query_api.queue.claims import Claim
from query_api.statistics.analysis import Analysis, analyse
from query_api.statistics.figures import FigureNames
from query_api.worker.metrics import WorkerMetrics
from query_api.worker.tuning import DEFAULT, Tuning
from shared.postgres.connections import RETRYABLE, Connection, Pool
from shared.postgres.errors import diagnose

MAX_ERROR_LENGTH = 2000

_log = structlog.get_logger()


class Attempts:
    """Runs claimed analyses. `ended` is called after each."""

    def __init__(
        self,
        database: Pool,
        tasks: asyncio.TaskGroup,
        metrics: WorkerMetrics,
        ended: Callable[[], None],
        tuning: Tuning = DEFAULT,
    ) -> None:
        self._database = database
        self._tasks = tasks
        self._metrics = metrics
        self._ended = ended
        self._tuning = tuning
        self._in_progress: dict[UUID, asyncio.Task[None]] = {}
        self._computing: dict[UUID, int] = {}
        self._lost: set[UUID] = set()

    def __len__(self) -> int:
        return len(self._in_progress)

    def begin(self, held: Claim) -> None:
        """Start a claimed analysis."""
        task = self._tasks.create_task(self._run(held), name=f"analysis {held.id}")
        self._in_progress[held.token] = task
        self._computing[held.token] = held.id
        task.add_done_callback(lambda _: self._done(held.token))  # also of one that is cancelled before it begins

    def _done(self, token: UUID) -> None:
        del self._in_progress[token]
        self._computing.pop(token, None)
        self._lost.discard(token)
        self._ended()

    async def renew(self, connection: Connection) -> None:
        """Renew the leases, and stop analyses that were cancelled or taken over."""
        held = list(self._in_progress)
        if not held:
            return
        kept = await queue.renew(connection, held, self._tuning.lease)
        for token in set(held).intersection(self._computing).difference(kept):
            self._stop(token)

    def ended_elsewhere(self, request_id: str) -> None:
        """Stop the analysis of this request, which was cancelled or whose device was deleted."""
        for token in [token for token, computing in self._computing.items() if str(computing) == request_id]:
            self._stop(token)

    def _stop(self, token: UUID) -> None:
        self._lost.add(token)
        self._in_progress[token].cancel()

    async def end(self, patience: float) -> None:
        """Wait for the analyses in progress up to `patience` seconds, then queue the rest again."""
        if self._in_progress:
            await asyncio.wait(self._in_progress.values(), timeout=patience)
        left = dict(self._in_progress)
        if not left:
            return
        for task in left.values():
            task.cancel()
        await asyncio.wait(left.values())
        try:
            async with self._database.connection() as connection:
                await queue.give_back(connection, list(left))
        except RETRYABLE as error:
            _log.warning("analyses could not be queued again: their leases will expire", reason=str(diagnose(error)))
        self._metrics.ended.labels("returned").inc(len(left))

    async def _run(self, held: Claim) -> None:
        began = time.perf_counter()
        try:
            outcome = await self._attempt(held)
        except RETRYABLE as error:
            outcome = "abandoned"
            _log.warning(
                "the outcome of an analysis could not be stored: its lease will expire",
                id=held.id,
                reason=str(diagnose(error)),
            )
        self._metrics.ended.labels(outcome).inc()
        self._metrics.seconds.observe(time.perf_counter() - began)
        _log.info("analysis finished", id=held.id, device_id=held.device_id, outcome=outcome)

    async def _attempt(self, held: Claim) -> str:
        """Run the analysis and write its end. Returns the outcome. Raises one of RETRYABLE if it cannot be written."""
        try:
            found = await self._compute(held)
        except asyncio.CancelledError:
            if held.token not in self._lost:
                raise
            return await self._taken(held)
        except Exception as error:  # noqa: BLE001  # it is stored with the request
            return await self._failed(held, error)
        async with self._database.connection() as connection:
            if await queue.finish(connection, held, found):
                return "done"
        return await self._taken(held)

    async def _compute(self, held: Claim) -> Analysis:
        try:
            async with self._database.connection() as connection:
                return await analyse(connection, held.device_id, held.start, held.end, FigureNames.of(held.figures))
        finally:
            self._computing.pop(held.token, None)

    async def _failed(self, held: Claim, error: Exception) -> str:
        text = f"{type(error).__name__}: {error}".strip()[:MAX_ERROR_LENGTH]
        _log.warning("an analysis failed", id=held.id, attempt=held.attempts, reason=text)
        async with self._database.connection() as connection:
            status = await queue.fail(connection, held, text, self._tuning.retries)
        if status is None:
            return await self._taken(held)
        return "retried" if status == "queued" else "failed"

    async def _taken(self, held: Claim) -> str:
        """Return the outcome of a lost claim."""
        async with self._database.connection() as connection:
            return "cancelled" if await queue.was_cancelled(connection, held.id) else "superseded"
