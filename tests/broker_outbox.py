"""Helpers for tests of the broker's outbox: apply it, wait for it, and wait for a disconnection."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from prometheus_client import CollectorRegistry

from deploy.doctor.broker_connection import BrokerConnection
from shared.broker.outbox import Outbox, target, waiting
from shared.broker.reconciliation import Target
from shared.errors import BrokerUnreachable
from shared.postgres.connections import Connection
from shared.settings import Settings
from tests.waiting import eventually


@asynccontextmanager
async def telling(settings: Settings, way: Target | None = None) -> AsyncIterator[None]:
    """Apply the outbox until the end of the block. `way`: instead of the configured way."""
    outbox = Outbox(settings.database, way or target(settings), CollectorRegistry())
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(outbox.run(), name="outbox under test")
        yield
        task.cancel()


async def told(database: Connection) -> None:
    """Wait until the outbox is empty."""
    await eventually(lambda: waiting(database), lambda count: count == 0)


async def cut_off(connection: BrokerConnection, reason: str | None = None) -> float:
    """Wait until the broker ends the connection; return the seconds that it took. `reason`: pattern of the error."""
    began = time.monotonic()
    with pytest.raises(BrokerUnreachable, match=reason):
        await connection.message(10)
    return time.monotonic() - began
