"""What dies in between loses nothing and doubles nothing: exact counts by value, after real signals."""

import asyncio
import operator
import random
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
from psycopg.conninfo import conninfo_to_dict

from deploy.mosquitto import EmbeddedMosquitto
from deploy.postgres import EmbeddedPostgres
from shared.database import Connection, connect
from shared.migrate import migrate
from shared.settings import Settings
from tests.conftest import Broker, Database
from tests.ingestion import IngestorProcess, metrics, running_ingestor, until_not_ready, until_ready
from tests.ports import free_port
from tests.proxy import Streams, running_proxy
from tests.publisher import Message, publish, publish_lines
from tests.waiting import eventually

_ADD_DEVICE = "INSERT INTO devices (id, key, name) VALUES (1, '1', 'press') ON CONFLICT DO NOTHING"
_EACH_ONCE = "SELECT count(*), count(DISTINCT x), min(x), max(x) FROM readings"


def numbered(count: int, start: int = 0) -> list[Message]:
    """Messages without a timestamp, each of an x of its own: a second copy of one is a second row."""
    return [Message(b'{"x":%d.%03d,"y":0,"z":0}' % divmod(n, 1000)) for n in range(start, start + count)]


async def expect_each_once(database: Connection, count: int) -> None:
    """Waits until so many readings are there, and holds that none is there twice."""

    async def counted() -> tuple[object, ...]:
        (row,) = await (await database.execute(_EACH_ONCE)).fetchall()
        return row

    seen = await eventually(counted, lambda row: int(str(row[1])) >= count, deadline_s=60)
    assert seen == (count, count, 0.0, (count - 1) / 1000)


@asynccontextmanager
async def stream(broker: Broker, count: int) -> AsyncIterator["asyncio.Task[None]"]:
    """Publishes numbered messages in slices while the block does its harm; ends when all are acknowledged."""

    async def publish_slices() -> None:
        for start in range(0, count, 500):
            await publish(broker.host, broker.port, *numbered(min(500, count - start), start))

    task = asyncio.create_task(publish_slices(), name="stream")
    yield task
    await task


@pytest.mark.parametrize("count", [10_000, pytest.param(500_000, marks=pytest.mark.soak)])
async def test_an_ingestor_killed_again_and_again(
    count: int,
    make_settings: Callable[..., Settings],
    broker: Broker,
    database: Database,
    start_ingestor: Callable[..., IngestorProcess],
) -> None:
    await database.execute(_ADD_DEVICE)
    settings, chance = make_settings(batch_max_readings=200), random.Random(7)
    process = start_ingestor(settings)
    await process.until_ready()
    async with stream(broker, count) as publishing:
        kills = 0
        while not publishing.done():
            await asyncio.sleep(chance.uniform(0.05, 0.4))  # the moment of the harm, not a wait for something
            process.kill()
            kills += 1
            process = start_ingestor(settings)
            await process.until_ready()
    await expect_each_once(database, count)
    code, logged = await process.end()
    assert (code, kills >= 2) == (0, True), logged


async def test_a_backlog_of_equal_readings_that_is_longer_than_the_packet_ids(
    make_settings: Callable[..., Settings],
    broker: Broker,
    database: Database,
    start_ingestor: Callable[..., IngestorProcess],
) -> None:
    """A device at rest: only its place in the order tells a message from another. Mosquitto sends more of the
    backlog than it may, so that packet ids come round among what it delivers again."""
    await database.execute(_ADD_DEVICE)
    settings, count = make_settings(batch_max_readings=1000), 80_000

    async def rows() -> int:
        (row,) = await (await database.execute("SELECT count(*) FROM readings WHERE x = 1")).fetchall()
        return int(row[0])

    async with running_ingestor(settings):
        pass  # its session is there now
    await publish_lines(broker.host, broker.port, "devices/1/stats", [b'{"x":1,"y":2,"z":3}'] * count)
    for part in (0.1, 0.4, 0.7):
        process = start_ingestor(settings)
        await eventually(rows, partial(operator.lt, part * count))
        process.kill()
    async with running_ingestor(settings):
        await publish(broker.host, broker.port, Message(b'{"x":2,"y":2,"z":2}'))
        last = "SELECT FROM readings WHERE x = 2"
        await eventually(partial(found, database, last), bool)
    assert await rows() == count


async def found(database: Database, query: str) -> bool:
    return (await database.execute(query.encode())).rowcount > 0


async def test_acknowledgements_that_were_lost_store_nothing_again(
    make_settings: Callable[..., Settings], broker: Broker, database: Database
) -> None:
    await database.execute(_ADD_DEVICE)
    async with running_proxy(lambda: asyncio.open_connection(broker.host, broker.port)) as proxy:
        settings = make_settings(mqtt_url=f"mqtt://127.0.0.1:{proxy.port}")
        async with running_ingestor(settings):
            proxy.mute()
            await publish(broker.host, broker.port, *numbered(1000))
            await expect_each_once(database, 1000)
            proxy.cut()
            await publish(broker.host, broker.port, *numbered(1000, start=1000))
            await expect_each_once(database, 2000)
            figures = await metrics(settings.ingestor_metrics_port)
        assert figures["devicestat_ingest_messages_redelivered_total"] == 1000
        assert figures["devicestat_ingest_readings_received_total"] == 2000
        assert figures["devicestat_ingest_readings_duplicate_total"] == 0


async def test_an_ingestor_that_starts_anew_knows_what_its_predecessor_stored(
    make_settings: Callable[..., Settings],
    broker: Broker,
    database: Database,
    start_ingestor: Callable[..., IngestorProcess],
) -> None:
    await database.execute(_ADD_DEVICE)
    async with running_proxy(lambda: asyncio.open_connection(broker.host, broker.port)) as proxy:
        settings = make_settings(mqtt_url=f"mqtt://127.0.0.1:{proxy.port}")
        process = start_ingestor(settings)
        await process.until_ready()
        proxy.mute()
        await publish(broker.host, broker.port, *numbered(1000))
        await expect_each_once(database, 1000)
        process.kill()
        async with running_ingestor(settings):
            await publish(broker.host, broker.port, *numbered(10, start=1000))
            await expect_each_once(database, 1010)
            figures = await metrics(settings.ingestor_metrics_port)
    assert figures["devicestat_ingest_messages_redelivered_total"] == 1000


async def test_a_commit_whose_answer_was_lost_is_not_done_again(
    make_settings: Callable[..., Settings], broker: Broker, database: Database, database_url: str
) -> None:
    await database.execute(_ADD_DEVICE)
    async with running_proxy(lambda: open_postgres(database_url)) as proxy:
        name = database.info.dbname
        url = f"postgresql://{database.info.user}:{database.info.password}@127.0.0.1:{proxy.port}/{name}"
        settings = make_settings(database_url=f"{url}?sslmode=disable&gssencmode=disable")
        async with running_ingestor(settings):
            proxy.cut_after = b"COMMIT"
            await publish(broker.host, broker.port, *numbered(300))
            await expect_each_once(database, 300)
            assert proxy.was_cut.is_set()
            stored = "devicestat_ingest_readings_stored_total"
            await eventually(lambda: metrics(settings.ingestor_metrics_port), lambda figures: figures[stored] == 300)


async def test_postgresql_killed_in_a_stream(own_broker: EmbeddedMosquitto) -> None:
    broker, count = Broker(own_broker.host, own_broker.port), 5_000
    with tempfile.TemporaryDirectory(prefix="ds") as directory, EmbeddedPostgres(Path(directory)) as postgres:
        async with await connect(postgres.url, "test") as database:
            await migrate(database)
            await database.execute(_ADD_DEVICE)
        settings = Settings(database_url=postgres.url, mqtt_url=own_broker.url, ingestor_metrics_port=free_port())
        async with running_ingestor(settings):
            async with stream(broker, count):
                for _ in range(2):
                    await asyncio.sleep(0.2)
                    postgres.kill()
                    await until_not_ready(settings.ingestor_metrics_port)
                    await asyncio.to_thread(postgres.start)
            async with await connect(postgres.url, "test") as database:
                await expect_each_once(database, count)
            await until_ready(settings.ingestor_metrics_port)


async def test_the_broker_restarted_while_messages_are_on_their_way(
    make_settings: Callable[..., Settings], own_broker: EmbeddedMosquitto, database: Database
) -> None:
    await database.execute(_ADD_DEVICE)
    settings = make_settings(mqtt_url=own_broker.url)
    async with running_ingestor(settings):
        for round_ in range(4):
            await publish(own_broker.host, own_broker.port, *numbered(1000, start=1000 * round_))
            await asyncio.to_thread(own_broker.stop)
            await asyncio.to_thread(own_broker.start)
        await expect_each_once(database, 4000)


async def test_a_second_ingestor_with_the_client_id_ends_the_first_with_a_clear_line(
    make_settings: Callable[..., Settings],
    broker: Broker,
    database: Database,
    start_ingestor: Callable[..., IngestorProcess],
) -> None:
    settings = make_settings()
    first = start_ingestor(settings)
    await first.until_ready()
    second = start_ingestor(make_settings(ingestor_metrics_port=free_port()))
    code, logged = await first.ended()
    assert code == 1
    assert f"another client has connected with the client id '{settings.mqtt_client_id}'" in logged
    assert "Traceback" not in logged
    await second.until_ready()
    code, logged = await second.end()
    assert code == 0, logged


async def open_postgres(url: str) -> Streams:
    """A connection to the server, whether it listens on a Unix socket or on a port."""
    given = conninfo_to_dict(url)
    host, port = str(given.get("host", "127.0.0.1")), int(given.get("port") or 5432)
    if host.startswith("/"):
        return await asyncio.open_unix_connection(f"{host}/.s.PGSQL.{port}")
    return await asyncio.open_connection(host, port)
