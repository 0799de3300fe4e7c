"""Run the queued analyses: the entry point of `devicestat work`.

The queue is a table (`query_api/queue/claims.py`, ADR 8). Any number of workers share it, and nothing is lost if one
is killed. APScheduler runs the periodic jobs: polling the queue, renewing leases, recovering expired leases of other
workers, and maintenance. A NOTIFY makes the worker poll immediately.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, ExitStack

import structlog

from query_api.queue import channels
from query_api.queue import claims as queue
from query_api.queue.claiming import Turns, wake
from query_api.worker import timetable
from query_api.worker.analyses.attempts import Attempts
from query_api.worker.callbacks import Callbacks
from query_api.worker.cleaning.rounds import clean
from query_api.worker.cleaning.tables import cleaners
from query_api.worker.maintenance import moved_clock
from query_api.worker.maintenance.activity import ActivityRound
from query_api.worker.maintenance.late_extents import widen_late
from query_api.worker.maintenance.partitions import drop_empty_partitions, drop_partitions, make_partitions
from query_api.worker.maintenance.removal import remove_all
from query_api.worker.maintenance.scrub import Scrub
from query_api.worker.metrics import WorkerMetrics
from query_api.worker.sealing import Sealing
from query_api.worker.settling import Settling
from query_api.worker.status import Status
from query_api.worker.ticks import run_due_ticks
from query_api.worker.timetable import Job, Timetable
from query_api.worker.tuning import DEFAULT, Tuning
from query_api.worker.webhook import CheckedNetwork, Webhook
from shared.broker.outbox import apply_outbox
from shared.errors import DatabaseBusy, DatabaseError
from shared.postgres.connections import RETRYABLE, Connection, Pool, open_pool
from shared.postgres.errors import diagnose
from shared.postgres.listening import listen as database_listen
from shared.postgres.starting import first_connection
from shared.serving.closed import telemetry_access
from shared.serving.schema_health import note_schema
from shared.serving.service import listen, serve_telemetry
from shared.serving.telemetry import Health
from shared.settings import Settings
from shared.status.process import Identity, Kind
from shared.status.reporting import reported, with_pool

POOL_WAIT_S = 3.0
SPARE_CONNECTIONS = 10
"""Connections in addition to one for each analysis: for claims, renewals, removal, sealing, settling, scrubbing,
cleaning, activity, maintenance and reports."""

CHANNELS = (channels.QUEUED, channels.ENDED, channels.CALLBACKS_DUE)
"""Channels on which the worker listens."""

_log = structlog.get_logger()


async def work(settings: Settings, stop: asyncio.Event, tuning: Tuning = DEFAULT) -> None:
    """Run queued analyses until the event is set. Analyses in progress then end or are queued again.

    At the start it waits for the database up to START_TIMEOUT; later it waits without limit and is not ready.
    Raises DevicestatError at the start: login refused, wrong schema version, or port in use.
    """
    health = Health("database", timetable.PART)
    metrics = WorkerMetrics()
    with ExitStack() as stack:
        port = settings.worker_metrics_port
        listener = port and stack.enter_context(listen(settings.http_host, port, "DEVICESTAT_WORKER_METRICS_PORT"))
        async with first_connection(settings.database, "worker start", settings.start_timeout, stop) as connection:
            if connection is None:
                return
        size = settings.worker_concurrency + SPARE_CONNECTIONS
        async with (
            open_pool(settings.database, "worker", max_size=size, patience=POOL_WAIT_S) as pool,
            asyncio.TaskGroup() as tasks,
        ):
            if listener:
                access = telemetry_access(settings)
                telemetry = serve_telemetry(health, metrics.registry, listener, stop, access)
                tasks.create_task(telemetry, name="worker telemetry")
            outbox = tasks.create_task(apply_outbox(settings, metrics.registry), name="broker outbox")
            worker = Worker(settings, pool, health, metrics, tuning)
            await worker.run(stop)
            outbox.cancel()


class Worker:
    """Claims analyses, of which up to WORKER_CONCURRENCY are computed at a time, and runs the periodic jobs."""

    def __init__(
        self, settings: Settings, database: Pool, health: Health, metrics: WorkerMetrics, tuning: Tuning
    ) -> None:
        self._url = settings.database
        self._database = database
        self._concurrency = settings.worker_concurrency
        self._retention = settings.retention
        self._cleaners = cleaners(settings)
        self._sealing = Sealing(metrics)
        self._settling = Settling(metrics)
        self._scrub = Scrub(metrics)
        self._activity = ActivityRound()
        self._health = health
        self._metrics = metrics
        self._tuning = tuning
        self._webhook = Webhook(
            settings.webhook_secret,
            CheckedNetwork(allow_private=settings.webhook_allow_private, ports=settings.webhook_ports),
            step_timeout_s=tuning.callback_step_s,
        )
        self._turns = Turns()
        self._look = asyncio.Event()
        self._stopping = False
        self._is_unavailable = False  # of the database

    async def run(self, stop: asyncio.Event) -> None:
        """Run until the event is set. Raises the unexpected exceptions of any part."""
        tuning, stop_timeout_s = self._tuning, self._tuning.stop_timeout_s
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            self._attempts = Attempts(self._database, tasks, self._metrics, self._look.set, self._concurrency, tuning)
            self._callbacks = Callbacks(
                self._database, self._webhook, tasks, self._metrics, self._look.set, tuning.callback_retries
            )
            claiming = tasks.create_task(self._claim_until_stopped(), name="claiming")
            listens = database_listen(self._url, "worker listen", CHANNELS, self._attend)
            listening = tasks.create_task(listens, name="listening")
            jobs = self._timetable()
            jobs.start()
            watching = tasks.create_task(jobs.watch(), name="watching the jobs")
            try:
                async with self._reported(jobs):
                    await stop.wait()
                self._stopping = True
                self._look.set()
                await asyncio.wait({claiming}, timeout=stop_timeout_s)  # so that its claims are in progress
                await asyncio.gather(self._attempts.end(stop_timeout_s), self._callbacks.end(stop_timeout_s))
            finally:
                claiming.cancel()
                listening.cancel()
                watching.cancel()
                await jobs.shut_down()

    def _reported(self, jobs: Timetable) -> AbstractAsyncContextManager[None]:
        attempts = self._attempts
        status = Status(self._health, self._metrics, self._concurrency, lambda: len(attempts), jobs.rounds)
        return reported(Identity.own(Kind.WORKER, ""), with_pool(self._database), self._health, status.document)

    # Jobs.

    def _timetable(self) -> Timetable:
        every = self._tuning
        jobs = {
            "poll": Job(every.poll_s, self._poll),
            "renew": Job(every.renew_s, lambda: self._with_database(self._attempts.renew)),
            "tick": Job(every.tick_s, lambda: self._with_database(self._tick)),
            "survey": Job(every.survey_s, lambda: self._with_database(self._survey)),
            "maintain": Job(every.maintain_s, lambda: self._with_database(self._maintain)),
            "remove": Job(every.remove_s, lambda: self._with_database(remove_all)),
            "clean": Job(every.clean_s, lambda: self._with_database(self._clean)),
            "seal": Job(every.seal_s, lambda: self._with_database(self._sealing.seal)),
            "settle": Job(every.settle_s, lambda: self._with_database(self._settling.settle)),
            "scrub": Job(every.scrub_s, lambda: self._with_database(self._scrub.scrub)),
            "activity": Job(every.activity_s, lambda: self._with_database(self._activity.keep)),
        }
        return Timetable(jobs, self._health, self._fail, jitter_s=every.jitter_s)

    def _fail(self, error: Exception) -> None:
        """Stop the worker with the exception of a job."""
        self._tasks.create_task(_raise(error), name="failed job")

    async def _poll(self) -> None:
        self._look.set()

    async def _tick(self, connection: Connection) -> None:
        await run_due_ticks(connection)

    async def _survey(self, connection: Connection) -> None:
        await moved_clock.correct(connection)
        reaped = await queue.reap(connection)
        for request_id, status in reaped.items():
            _log.warning("released an analysis whose lease had expired", id=request_id, status=status)
        if reaped:
            self._look.set()
        self._metrics.waiting.set(await queue.length(connection))
        await note_schema(connection, self._health)

    async def _maintain(self, connection: Connection) -> None:
        await make_partitions(connection)
        if self._retention is not None:
            for month in await drop_partitions(connection, self._retention):
                _log.info("dropped a month that was older than RETENTION", table=month)
        for month in await drop_empty_partitions(connection):
            _log.info("dropped a month without readings", table=month)
        if widened := await widen_late(connection):
            _log.warning(
                "widened extents: a service of an older version stored readings after the migration", devices=widened
            )

    async def _clean(self, connection: Connection) -> None:
        for table, rows in (await clean(connection, self._cleaners)).items():
            _log.info("deleted rows past their retention", table=table, rows=rows)

    # Claiming.

    async def _claim_until_stopped(self) -> None:
        while True:
            await self._look.wait()
            self._look.clear()
            if self._stopping:
                return
            await self._with_database(self._claim)

    async def _claim(self, connection: Connection) -> None:
        await self._claim_analyses(connection)
        await self._callbacks.begin(connection)

    async def _claim_analyses(self, connection: Connection) -> None:
        """Claim as many as can begin now, and if there are more, those that will begin soon."""
        places = self._attempts.places
        if not places:
            return
        await wake(connection)
        held = await self._turns.claim(connection, places, self._tuning.lease)
        self._attempts.begin(held)
        ahead = self._attempts.ahead if len(held) == places and not self._stopping else 0
        if ahead:
            self._attempts.begin(await self._turns.claim(connection, ahead, self._tuning.lease, fresh=True))

    async def _attend(self, connection: Connection) -> None:
        """Look at the queue at each NOTIFY, and stop attempts that another process has ended.

        Without this connection the worker looks at its next poll, and stops such an attempt at its next renewal.
        """
        self._look.set()
        async for notify in connection.notifies():
            if notify.channel == channels.ENDED:
                self._attempts.ended_elsewhere(notify.payload)
            else:
                self._look.set()

    async def _with_database(self, action: Callable[[Connection], Awaitable[None]]) -> None:
        """Run the action if the database is available. If not, the next run of the job does."""
        try:
            async with self._database.connection() as connection:
                await action(connection)
        except RETRYABLE as error:
            self._failed(diagnose(error))
        else:
            if self._is_unavailable:
                _log.info("the database is available again")
            self._is_unavailable = False
            self._health.ready("database")

    def _failed(self, fault: DatabaseError) -> None:
        if isinstance(fault, DatabaseBusy):  # the next run does it
            _log.warning("a job was delayed: the database is busy", reason=str(fault))
            return
        if not self._is_unavailable:
            _log.warning("the database is unavailable", reason=str(fault))
        self._is_unavailable = True
        self._health.not_ready("database", str(fault))


async def _raise(error: Exception) -> None:
    raise error
