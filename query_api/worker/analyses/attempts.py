"""The analyses that a worker has claimed: each has a lease, and becomes a task when there is a place for it.

There are WORKER_CONCURRENCY places. Further analyses may be claimed ahead (`ahead.py`). They wait for a place, which
several of them may share (`together.py`), and are queued again if they get none in time, for example behind slow
analyses. `finishing.py` writes the results.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from itertools import chain
from uuid import UUID

import structlog

from query_api.queue import claims as queue
from query_api.queue.claims import Claim
from query_api.statistics.analysis import Analysis, analyse
from query_api.statistics.figures import FigureNames
from query_api.worker.analyses.ahead import Pace
from query_api.worker.analyses.finishing import Finishing
from query_api.worker.analyses.together import compute_together, take_group
from query_api.worker.metrics import WorkerMetrics
from query_api.worker.tuning import DEFAULT, Tuning
from shared.postgres.connections import RETRYABLE, Connection, Pool
from shared.postgres.errors import diagnose

MAX_ERROR_LENGTH = 2000
MOST_IN_PROGRESS = 500
"""Analyses that are computed, or whose results are not written yet."""

_log = structlog.get_logger()


class Attempts:
    """Runs claimed analyses, up to `concurrency` at a time. `vacant` is called when there is a place for another."""

    def __init__(
        self,
        database: Pool,
        tasks: asyncio.TaskGroup,
        metrics: WorkerMetrics,
        vacant: Callable[[], None],
        concurrency: int = 1,
        tuning: Tuning = DEFAULT,
    ) -> None:
        self._database = database
        self._tasks = tasks
        self._metrics = metrics
        self._vacant = vacant
        self._concurrency = concurrency
        self._tuning = tuning
        self._pace = Pace(concurrency)
        self._finishing = Finishing(database, tasks)
        self._waiting: deque[Claim] = deque()
        self._patience: asyncio.TimerHandle | None = None
        self._in_progress: dict[UUID, asyncio.Task[None]] = {}
        self._computing: dict[UUID, Claim] = {}  # each in a place of its own
        self._together: dict[asyncio.Task[None], Sequence[Claim]] = {}  # each in one place
        self._alone: set[UUID] = set()  # those that could not be computed together with others
        self._is_ending = False
        self._stoppable: dict[str, UUID] = {}  # by the id of the request: waiting, or computing
        self._lost: set[UUID] = set()

    def __len__(self) -> int:
        return len(self._tokens())

    def _tokens(self) -> list[UUID]:
        claims = chain(self._waiting, *self._together.values())
        return [*self._in_progress, *(held.token for held in claims)]

    @property
    def places(self) -> int:
        """The number of analyses that could begin now."""
        if self._waiting or len(self._in_progress) >= MOST_IN_PROGRESS:
            return 0
        return self._free

    @property
    def _free(self) -> int:
        return self._concurrency - len(self._computing) - len(self._together)

    @property
    def ahead(self) -> int:
        """The number of analyses that are worth claiming ahead.

        None beside a retry. A request that ends its worker is a retry the next time, and each analysis that is claimed
        with it loses an attempt.
        """
        if self._waiting or any(held.is_retry for held in self._computing.values()):
            return 0
        return self._pace.ahead

    def begin(self, claims: Sequence[Claim]) -> None:
        """Start the claimed analyses. Those without a place wait for one."""
        self._waiting.extend(claims)
        self._stoppable.update({str(held.id): held.token for held in claims})
        self._fill()
        if self._waiting:
            self._wait_for_places()

    def _wait_for_places(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
        loop = asyncio.get_running_loop()
        self._patience = loop.call_later(self._tuning.place_wait_s, self._return_waiting)

    def _return_waiting(self) -> None:
        """Queue the waiting analyses again, as another worker may have a place."""
        if left := self._clear_waiting():
            self._tasks.create_task(self._give_back(left), name="queue analyses again")

    def _clear_waiting(self) -> list[UUID]:
        left = list(self._waiting)
        self._waiting.clear()
        for held in left:
            self._forget(held)
            self._lost.discard(held.token)
            self._alone.discard(held.token)
        return [held.token for held in left]

    def _fill(self) -> None:
        while self._waiting and self._free > 0 and not self._is_ending:
            group = take_group(self._waiting, self._alone | self._lost)
            if len(group) == 1:
                self._computing[group[0].token] = group[0]
                self._start(group[0], time.perf_counter())
            else:
                self._start_together(group)

    def _start(self, held: Claim, began: float, found: Analysis | None = None) -> None:
        task = self._tasks.create_task(self._run(held, began, found), name=f"analysis {held.id}")
        self._in_progress[held.token] = task
        task.add_done_callback(lambda _: self._done(held))  # also of one that is cancelled before it begins

    def _start_together(self, group: Sequence[Claim]) -> None:
        task = self._tasks.create_task(self._run_together(group), name=f"{len(group)} analyses")
        self._together[task] = group

    async def _run_together(self, group: Sequence[Claim]) -> None:
        began, found = time.perf_counter(), None
        try:
            found = await compute_together(self._database, group)
        finally:
            self._pace.add((time.perf_counter() - began) / (len(group) if found else 1))
            self._together = {task: held for task, held in self._together.items() if held is not group}
            self._pass_on(group, began, found)

    def _pass_on(self, group: Sequence[Claim], began: float, found: Sequence[Analysis] | None) -> None:
        """Have the results written, or the analyses computed one by one."""
        if found is None:
            self._alone.update(held.token for held in group)
            self._waiting.extendleft(reversed(group))
            self._wait_for_places()
        else:
            for held, one in zip(group, found, strict=True):
                self._forget(held)
                self._start(held, began, one)
        self._fill()
        if self.places:
            self._vacant()

    def _done(self, held: Claim) -> None:
        were_most = len(self._in_progress) >= MOST_IN_PROGRESS
        del self._in_progress[held.token]
        self._release(held)
        self._lost.discard(held.token)
        self._alone.discard(held.token)
        if were_most:
            self._vacant()

    def _release(self, held: Claim) -> None:
        """Give the place of an analysis to the next one. From now on it cannot be stopped."""
        if self._computing.pop(held.token, None) is None:
            return
        self._forget(held)
        self._fill()
        if self.places:
            self._vacant()

    def _forget(self, held: Claim) -> None:
        if self._stoppable.get(str(held.id)) == held.token:
            del self._stoppable[str(held.id)]

    async def renew(self, connection: Connection) -> None:
        """Renew the leases, and stop analyses that were cancelled or taken over."""
        held = self._tokens()
        if not held:
            return
        kept = await queue.renew(connection, held, self._tuning.lease)
        for token in set(held).intersection(self._stoppable.values()).difference(kept):
            self._stop(token)

    def ended_elsewhere(self, request_id: str) -> None:
        """Stop the analysis of this request, which was cancelled or whose device was deleted."""
        if (token := self._stoppable.get(request_id)) is not None:
            self._stop(token)

    def _stop(self, token: UUID) -> None:
        self._lost.add(token)
        if token in self._in_progress:
            self._in_progress[token].cancel()

    async def end(self, patience: float) -> None:
        """Wait for the analyses in progress up to `patience` seconds, and queue the others again."""
        self._is_ending = True
        if self._patience is not None:
            self._patience.cancel()
        await self._give_back(self._clear_waiting())
        await self._wait_for_ends(patience)
        left = self._tokens()
        if tasks := self._all_tasks():
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            await self._finishing.stop()
        self._together.clear()  # of tasks that were cancelled before they began
        self._clear_waiting()
        await self._give_back(left)

    async def _wait_for_ends(self, seconds: float) -> None:
        """Wait for the tasks, and for those that follow them, up to some seconds."""
        loop = asyncio.get_running_loop()
        ends_at = loop.time() + seconds
        while (tasks := self._all_tasks()) and loop.time() < ends_at:
            await asyncio.wait(tasks, timeout=ends_at - loop.time())

    def _all_tasks(self) -> list[asyncio.Task[None]]:
        return [*self._in_progress.values(), *self._together]

    async def _give_back(self, tokens: Sequence[UUID]) -> None:
        if not tokens:
            return
        try:
            async with self._database.connection() as connection:
                await queue.give_back(connection, tokens)
        except RETRYABLE as error:
            _log.warning("analyses could not be queued again: their leases will expire", reason=str(diagnose(error)))
        self._metrics.ended.labels("returned").inc(len(tokens))

    async def _run(self, held: Claim, began: float, found: Analysis | None) -> None:
        try:
            outcome = await self._attempt(held, found)
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

    async def _attempt(self, held: Claim, found: Analysis | None) -> str:
        """Run the analysis, if it is not computed yet, and write its end. Returns the outcome.

        Raises one of RETRYABLE if it cannot be written.
        """
        if held.token in self._lost:  # while it waited
            self._release(held)
            return await self._taken(held)
        try:
            found = found or await self._compute(held)
        except asyncio.CancelledError:
            if held.token not in self._lost:
                raise
            return await self._taken(held)
        except Exception as error:  # noqa: BLE001  # it is stored with the request
            return await self._failed(held, error)
        return "done" if await self._finishing.finish(held, found) else await self._taken(held)

    async def _compute(self, held: Claim) -> Analysis:
        began = time.perf_counter()
        try:
            async with self._database.connection() as connection:
                return await analyse(connection, held.device_id, held.start, held.end, FigureNames.of(held.figures))
        finally:
            self._pace.add(time.perf_counter() - began)
            self._release(held)

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
