"""Mosquitto is killed and restored from an older state: it uses packet ids of stored messages again. Nothing that it
acknowledges after that is lost, also if equal messages on a broken connection were not read (ADR 34)."""

import asyncio
import os
import signal
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from deploy.local.mosquitto import EmbeddedMosquitto
from shared.settings import Settings
from tests.conftest import Database
from tests.faults.stream import IN_FLIGHT, add_devices, expect_a_good_end
from tests.faults.test_broker_faults import held
from tests.ingestion import IngestorProcess, metrics
from tests.ports import free_port
from tests.proxy import Link, Proxy, running
from tests.publisher import Message, publish
from tests.waiting import eventually

Make = Callable[..., Settings]
Start = Callable[..., IngestorProcess]
EQUAL = Message(b'{"x":1,"y":2,"z":3}')
NEW = 5
"""Messages that the broker acknowledges after its restart, and sends on a connection that breaks."""
BACKLOG = 6000


class Deaf(Proxy):
    """Loses what the server sends while `is_deaf` is set. `lost`: the number of bytes."""

    is_deaf = False
    lost = 0

    async def server_sends(self, link: Link, data: bytes) -> None:
        if self.is_deaf:
            self.lost += len(data)
        else:
            await super().server_sends(link, data)

    async def cut_after_a_loss(self) -> None:
        """Reset all connections once data were lost."""
        await eventually(self._lost, lambda lost: lost >= NEW * len(EQUAL.payload))
        self.is_deaf = False
        await self.cut_and_await_the_next()

    async def _lost(self) -> int:
        return self.lost


@pytest.fixture
def saving_broker() -> Iterator[EmbeddedMosquitto]:
    """Saves its state only when a signal asks for it."""
    with (
        tempfile.TemporaryDirectory(prefix="ds") as directory,
        EmbeddedMosquitto(Path(directory), free_port(), {"autosave_interval": "3600"}) as mosquitto,
    ):
        yield mosquitto


async def _save(broker: EmbeddedMosquitto) -> None:
    path = broker.data / "mosquitto.db"

    async def saved_at() -> int:
        return path.stat().st_mtime_ns if path.exists() else 0

    before = await saved_at()
    assert broker.pid is not None
    os.kill(broker.pid, signal.SIGUSR1)
    await eventually(saved_at, lambda at: at > before)


async def _publish(broker: EmbeddedMosquitto, count: int) -> None:
    await publish(broker.host, broker.port, *[EQUAL] * count)


async def _rows(database: Database) -> int:
    row = await (await database.execute("SELECT count(*) FROM readings")).fetchone()
    assert row is not None
    return int(row[0])


async def _stores(database: Database, count: int) -> None:
    await eventually(lambda: _rows(database), lambda rows: rows == count)


async def _is_in_sequence(database: Database) -> bool | None:
    cursor = await database.execute("SELECT in_sequence FROM ingest_journal ORDER BY batch_no DESC LIMIT 1")
    row = await cursor.fetchone()
    assert row is not None
    return row[0]  # type: ignore[no-any-return]


@asynccontextmanager
async def _ingestor_that_knows(
    settings: Settings, broker: EmbeddedMosquitto, database: Database, start: Start
) -> AsyncIterator[IngestorProcess]:
    """Run an ingestor that knows that ids are in sequence."""
    process = start(settings)
    await process.until_ready()
    await _publish(broker, 10)
    await _stores(database, 10)
    await expect_a_good_end(process)
    process = start(settings)
    await process.until_ready()

    async def publish_one() -> bool | None:
        await _publish(broker, 1)
        return await _is_in_sequence(database)

    await eventually(publish_one, bool)
    yield process
    await expect_a_good_end(process)


async def _settled(database: Database) -> int:
    """Return the number of rows, once it does not grow."""
    seen = -1

    async def grows() -> bool:
        nonlocal seen
        before, seen = seen, await _rows(database)
        await asyncio.sleep(0.5)
        return before != seen

    await eventually(grows, lambda is_growing: not is_growing)
    return seen


async def test_the_connection_breaks_before_its_connack_is_read(
    make_settings: Make, saving_broker: EmbeddedMosquitto, database: Database, start_ingestor: Start
) -> None:
    """The journal had no entry of the connection on which the new messages were sent: five of five were lost."""
    await add_devices(database)
    async with running(Deaf(lambda: asyncio.open_connection(saving_broker.host, saving_broker.port))) as proxy:
        settings = make_settings(mqtt_url=f"mqtt://127.0.0.1:{proxy.port}")
        async with _ingestor_that_knows(settings, saving_broker, database, start_ingestor) as process:
            stored = await _settled(database)
            await _save(saving_broker)
            await _publish(saving_broker, 20)
            await _stores(database, stored + 20)
            proxy.is_deaf = True
            await asyncio.to_thread(saving_broker.kill)
            await asyncio.to_thread(saving_broker.start)
            await _publish(saving_broker, NEW)
            await proxy.cut_after_a_loss()
            await process.until_ready()
            await _stores(database, stored + 20 + NEW)


async def test_a_connection_brings_only_stored_messages_and_breaks(
    make_settings: Make,
    saving_broker: EmbeddedMosquitto,
    database: Database,
    database_url: str,
    start_ingestor: Start,
) -> None:
    """The stored messages hid that the new ones were not read: five of five were lost. The three that the broker had
    saved in flight are stored twice, and counted."""
    await add_devices(database)
    async with running(Deaf(lambda: asyncio.open_connection(saving_broker.host, saving_broker.port))) as proxy:
        settings = make_settings(mqtt_url=f"mqtt://127.0.0.1:{proxy.port}")
        async with _ingestor_that_knows(settings, saving_broker, database, start_ingestor) as process:
            stored = await _settled(database)
            async with held(database_url) as release:
                await _publish(saving_broker, 3)
                await _save(saving_broker)
                await release()
            await _publish(saving_broker, 20)
            await _stores(database, stored + 23)
            await asyncio.to_thread(saving_broker.kill)
            await asyncio.to_thread(saving_broker.start)
            await process.until_ready()
            await _stores(database, stored + 26)
            assert (await metrics(process.port))["devicestat_ingest_messages_ambiguous_total"] == 3
            proxy.is_deaf = True
            await _publish(saving_broker, NEW)
            await proxy.cut_after_a_loss()
            await process.until_ready()
            await _stores(database, stored + 26 + NEW)


async def test_it_is_restarted_while_it_drains_a_backlog(
    make_settings: Make,
    saving_broker: EmbeddedMosquitto,
    database: Database,
    database_url: str,
    start_ingestor: Start,
) -> None:
    """It keeps its state. Mosquitto 2.0.11 has more messages in flight than it may, and redelivers all of them at once,
    up to the journal's end: all of them are stored once."""
    await add_devices(database)
    settings = make_settings(mqtt_url=saving_broker.url)
    async with _ingestor_that_knows(settings, saving_broker, database, start_ingestor):
        stored = await _settled(database)
    await _publish(saving_broker, BACKLOG)
    async with held(database_url) as release:
        process = start_ingestor(settings)
        await process.until_ready()
        await eventually(lambda: metrics(process.port), lambda figures: figures[IN_FLIGHT] >= 1000)
        await asyncio.to_thread(saving_broker.stop)
        await release()
    await asyncio.to_thread(saving_broker.start)
    await process.until_ready()
    await _stores(database, stored + BACKLOG)
    assert await _settled(database) == stored + BACKLOG
    assert (await metrics(process.port))["devicestat_ingest_messages_ambiguous_total"] == 0
    await expect_a_good_end(process)
