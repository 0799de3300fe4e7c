"""A process writes its row every few seconds, and removes it when it stops.

A report is worth nothing to the process itself. So it never fails the process: a failure is logged once and ignored.
The database is away now and then, which the services log themselves.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta

import msgspec
import structlog

from shared.errors import DatabaseUnreachable
from shared.postgres.connections import RETRYABLE, Connection, Pool
from shared.postgres.errors import diagnose
from shared.serving.telemetry import Health
from shared.status.figures import Document
from shared.status.process import Identity

REPORT_S = 5.0
"""Interval of the reports."""
LOOK_S = 0.5
"""Interval of looks at the health. A change is reported immediately."""
WITHDRAW_S = 2.0
"""Time for the removal of the row when the process stops."""

Use = Callable[[Callable[[Connection], Awaitable[None]]], Awaitable[None]]
"""Runs an action with a connection of the process."""

_log = structlog.get_logger()


@asynccontextmanager
async def reported(
    process: Identity, use: Use, health: Health, document: Callable[[], Document], every_s: float = REPORT_S
) -> AsyncIterator[None]:
    """Report the state of the process during the block.

    If the block ends without an exception, its row is removed. Otherwise the row stays, and shows that the process is
    gone.
    """
    reports = asyncio.create_task(_Reports(process, use, health, document).run(every_s), name="process status")
    try:
        yield
    except BaseException:
        await _end(reports)
        raise
    await _end(reports)
    await _withdraw(process, use)


async def _end(task: "asyncio.Task[None]") -> None:
    task.cancel()
    await asyncio.wait({task})


def with_pool(pool: Pool) -> Use:
    """Use a connection of the pool."""

    async def use(action: Callable[[Connection], Awaitable[None]]) -> None:
        async with pool.connection() as connection:
            await action(connection)

    return use


_REPORT = """
    SELECT report_process(%(id)s, %(kind)s, %(name)s, %(host)s, %(pid)s, %(version)s, %(runs_for)s, %(document)s::jsonb)
"""


async def report(connection: Connection, process: Identity, document: Document) -> None:
    """Write the row of the process."""
    fields = {name: value for name, value in msgspec.structs.asdict(process).items() if name != "began"}
    runs_for = timedelta(seconds=time.monotonic() - process.began)
    text = msgspec.json.encode(document).decode()
    await connection.execute(_REPORT, {**fields, "kind": process.kind.value, "runs_for": runs_for, "document": text})


class _Reports:
    def __init__(self, process: Identity, use: Use, health: Health, document: Callable[[], Document]) -> None:
        self._process = process
        self._use = use
        self._health = health
        self._document = document
        self._has_failed = False

    async def run(self, every_s: float) -> None:
        due_at, faulty = float("-inf"), self._faulty()
        while True:
            if time.monotonic() >= due_at or self._faulty() != faulty:
                due_at, faulty = time.monotonic() + every_s, self._faulty()
                await self._try()
            await asyncio.sleep(min(LOOK_S, every_s))

    def _faulty(self) -> set[str]:
        return {part.name for part in self._health.parts() if part.fault is not None}

    async def _try(self) -> None:
        try:
            document = self._document()
            await self._use(lambda connection: report(connection, self._process, document))
        except RETRYABLE as error:
            self._failed(diagnose(error))
        except Exception as error:  # noqa: BLE001  # whatever it is, the process goes on
            self._failed(error)
        else:
            self._has_failed = False

    def _failed(self, error: Exception) -> None:
        if not self._has_failed and not isinstance(error, DatabaseUnreachable):
            _log.warning("the state of this process could not be recorded", reason=str(error))
        self._has_failed = True


_WITHDRAW = "SELECT withdraw_process(%s)"


async def _withdraw(process: Identity, use: Use) -> None:
    async def action(connection: Connection) -> None:
        await connection.execute(_WITHDRAW, (process.id,))

    try:
        async with asyncio.timeout(WITHDRAW_S):
            await use(action)
    except Exception as error:  # noqa: BLE001  # the process stops, and its row expires
        _log.debug("the state of this process could not be removed", reason=str(error))
