"""An ingestor of an earlier version runs on after the migration: it stores and acknowledges nothing (ADR 41)."""

from collections.abc import Callable
from contextlib import AsyncExitStack

import pytest

from shared.readings import deletions
from shared.settings import Settings
from tests import services
from tests.conftest import Broker, Database
from tests.faults.stream import add_devices, expect_each_once, publishing
from tests.ingestion import health, running_ingestor
from tests.waiting import eventually

Make = Callable[..., Settings]
FORMER = "SELECT number, device_id, NULL, NULL, NULL FROM devices_deleted_since(%s) WHERE %s >= 0"
"""The first statement of a transaction of an earlier ingestor, with the parameters of this one."""


async def test_it_stores_nothing_and_the_newer_one_stores_everything(
    make_settings: Make, broker: Broker, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    await add_devices(database)
    settings = make_settings()
    async with AsyncExitStack() as newer:
        older = AsyncExitStack()
        patch = older.enter_context(monkeypatch.context())
        await older.enter_async_context(running_ingestor(settings))
        patch.setattr(deletions, "_ENTER", FORMER)  # the migration was applied
        async with older, publishing(broker) as stream:
            await stream.grows(1000)
            await eventually(
                lambda: health(settings.ingestor_metrics_port),
                lambda found: "earlier version than the schema" in str(found["parts"]),
            )
            assert (await database.execute("SELECT FROM readings LIMIT 1")).rowcount == 0
            assert not await services.is_ready(settings.ingestor_metrics_port)
            await older.aclose()
            await newer.enter_async_context(running_ingestor(settings))
            await stream.grows(1000)
        await expect_each_once(database, stream)
