"""A later version migrates the database of a running service: its readiness reports this, and it continues."""

from collections.abc import Callable
from contextlib import AsyncExitStack

import pytest

from shared.settings import Settings
from tests import services
from tests.conftest import Broker, Database
from tests.ingestion import health, running_ingestor
from tests.publisher import Message, publish
from tests.services import is_ready
from tests.waiting import eventually

WORDS = "schema is at version 9999"


async def test_each_service_is_not_ready_on_a_schema_that_became_newer(
    make_settings: Callable[..., Settings], broker: Broker, database: Database, capsys: pytest.CaptureFixture[str]
) -> None:
    await database.execute("INSERT INTO devices (id, key, name) VALUES (1, '1', 'press')")
    settings = make_settings()
    ports = (settings.http_port, settings.ingestor_metrics_port, settings.worker_metrics_port)
    async with AsyncExitStack() as running:
        await running.enter_async_context(services.api(settings))
        await running.enter_async_context(running_ingestor(settings))
        await running.enter_async_context(services.worker(settings))
        for port in ports:
            await eventually(lambda port=port: is_ready(port), bool)
        await database.execute("INSERT INTO schema_migrations VALUES (9999, 'from the future', '')")
        for port in ports:
            said = await eventually(lambda port=port: health(port), lambda said: said["status"] == "not ready")
            assert WORDS in said["parts"]["schema"]
            assert "upgrade devicestat" in said["parts"]["schema"]
        await publish(broker.host, broker.port, Message(b'{"x": 1, "y": 2, "z": 3}'))
        await eventually(lambda: _count(database), lambda count: count == 1)
        await database.execute("DELETE FROM schema_migrations WHERE version = 9999")
        for port in ports:
            await eventually(lambda port=port: is_ready(port), bool)
    assert "is available again" not in "".join(capsys.readouterr())  # the database was never unreachable


async def _count(database: Database) -> int:
    row = await (await database.execute("SELECT count(*) FROM readings")).fetchone()
    assert row is not None
    count: int = row[0]
    return count
