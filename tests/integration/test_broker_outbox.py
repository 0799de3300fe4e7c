"""The outbox loses its database connection, and with it the lock, while it updates the broker."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from prometheus_client import CollectorRegistry

from shared.broker.device_credentials import credentials_of
from shared.broker.outbox import Outbox, waiting
from shared.broker.reconciliation import Reconcile, Reconciled
from shared.postgres.connections import Connection
from shared.settings import Settings
from tests.closed_broker import SECRET, give_token
from tests.conftest import Database
from tests.waiting import HANG_S, eventually

_CUT = """
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE application_name = 'devicestat broker outbox' AND datname = current_database()
"""


class Told:
    """Updates a broker, here a list of tokens, when the gate is open."""

    batch = 100

    def __init__(self, broker: list[str | None], gate: asyncio.Event) -> None:
        self._broker, self._gate = broker, gate
        self.has_read = asyncio.Event()

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Reconcile]:
        yield self._bring

    async def _bring(self, connection: Connection, numbers: Sequence[int]) -> Reconciled:
        devices = await credentials_of(connection, numbers, SECRET)
        self.has_read.set()
        await self._gate.wait()
        self._broker += [device.token for device in devices.values()]
        return Reconciled({}, {})


async def test_one_that_loses_the_lock_while_it_tells_the_broker_leaves_no_revoked_token_there(
    make_settings: Callable[..., Settings], database: Database, tmp_path: Path
) -> None:
    settings = make_settings(broker_passwords=str(tmp_path / "passwd"), device_secret=SECRET)
    broker: list[str | None] = []
    gate, no_gate = asyncio.Event(), asyncio.Event()
    no_gate.set()
    slow, quick = Told(broker, gate), Told(broker, no_gate)
    older, newer = (Outbox(settings.database, way, CollectorRegistry()) for way in (slow, quick))

    async def told() -> list[str | None]:
        return broker

    old = await give_token(database, 7)
    async with asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(older.run(), name="older")]
        await asyncio.wait_for(slow.has_read.wait(), HANG_S)
        new = await give_token(database, 7)
        await database.execute(_CUT)
        running.append(tasks.create_task(newer.run(), name="newer"))
        await eventually(lambda: waiting(database), lambda count: count == 0)
        assert broker == [new]
        gate.set()
        await eventually(told, lambda told: told == [new, old, new])
        for task in running:
            task.cancel()
