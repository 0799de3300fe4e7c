"""Faults of the broker, or of the network to it: no reading is lost, and none is stored twice."""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from deploy.local.mosquitto import EmbeddedMosquitto
from shared.postgres.connections import connect
from shared.settings import Settings
from tests.conftest import Broker, Database
from tests.faults.mqtt_proxy import MqttProxy
from tests.faults.stream import (
    FLAT_OUT,
    IN_FLIGHT,
    RATE,
    add_devices,
    expect_a_good_end,
    expect_counts_to_add_up,
    expect_each_once,
    publishing,
)
from tests.ingestion import IngestorProcess, until_not_ready
from tests.proxy import running
from tests.waiting import HANG_S, eventually

Make = Callable[..., Settings]
Start = Callable[..., IngestorProcess]
REDELIVERED = "devicestat_ingest_messages_redelivered_total"
RESETS = 7
"""Number of resets for one ingestor, which waits longer after each."""
LARGEST_PART = 30
"""Bytes per reading, of an interrupted PUBLISH."""


@asynccontextmanager
async def held(url: str) -> AsyncIterator[Callable[[], Awaitable[object]]]:
    """Block all stores until the yielded function is called."""
    async with await connect(url, "test") as connection:
        await connection.execute("BEGIN")
        await connection.execute("LOCK TABLE readings IN EXCLUSIVE MODE")

        async def release() -> None:
            await connection.execute("ROLLBACK")

        yield release
        await release()


@pytest.mark.parametrize("restarts", [3, pytest.param(60, marks=pytest.mark.soak)])
async def test_it_is_restarted_while_many_messages_are_in_flight(
    restarts: int,
    make_settings: Make,
    own_broker: EmbeddedMosquitto,
    database: Database,
    database_url: str,
    start_ingestor: Start,
) -> None:
    """The publisher pauses, because it would publish unacknowledged messages twice. The database is blocked, so that
    thousands of messages are unacknowledged when the broker stops. They are committed before its end, while it is down,
    or after its start."""
    await add_devices(database)
    process = start_ingestor(make_settings(mqtt_url=own_broker.url))
    await process.until_ready()
    async with publishing(Broker(own_broker.host, own_broker.port)) as stream:
        for turn in range(restarts):
            async with held(database_url) as release:
                await stream.grows(3000)
                await stream.halt()
                assert (await expect_counts_to_add_up(process.port))[IN_FLIGHT] >= 1000
                if turn % 3 == 0:
                    await release()
                await asyncio.to_thread(own_broker.stop)
                if turn % 3 == 1:
                    await release()
                await asyncio.to_thread(own_broker.start)
            await process.until_ready()
            await stream.start()
    await expect_each_once(database, stream)
    await expect_a_good_end(process)


@pytest.mark.parametrize("times", [1, pytest.param(10, marks=pytest.mark.soak)])
async def test_it_refuses_connections_for_a_while(
    times: int, make_settings: Make, broker: Broker, database: Database, start_ingestor: Start
) -> None:
    await add_devices(database)
    async with running(MqttProxy(broker)) as proxy:
        process = start_ingestor(make_settings(mqtt_url=f"mqtt://127.0.0.1:{proxy.port}"))
        await process.until_ready()
        async with publishing(broker) as stream:
            for _ in range(times):
                await stream.grows(1000)
                proxy.refuse()
                await until_not_ready(process.port)
                await stream.grows(5000)
                assert "broker" in await process.why_not_ready()
                await proxy.listen()
                await process.until_ready()
        await expect_each_once(database, stream)
        await expect_a_good_end(process)


@pytest.mark.parametrize("times", [1, pytest.param(4, marks=pytest.mark.soak)])
async def test_the_network_to_it_falls_silent(
    times: int, make_settings: Make, impatient_broker: EmbeddedMosquitto, database: Database, start_ingestor: Start
) -> None:
    """No connection is closed or refused, so only the keep-alive detects the fault."""
    await add_devices(database)
    broker = Broker(impatient_broker.host, impatient_broker.port)
    async with running(MqttProxy(broker)) as proxy:
        process = start_ingestor(make_settings(mqtt_url=f"mqtt://127.0.0.1:{proxy.port}"))
        await process.until_ready()
        async with publishing(broker) as stream:
            for _ in range(times):
                await stream.grows(1000)
                proxy.silence()
                await stream.grows(1000)
                await until_not_ready(process.port)
                proxy.speak()
                await process.until_ready()
        await expect_each_once(database, stream)
        logged = await expect_a_good_end(process)
        assert logged.count("no packet for") >= times


@pytest.mark.parametrize(
    ("ingestors", "size", "rate"),
    [
        (1, 1, RATE),
        pytest.param(10, 1, RATE, marks=pytest.mark.soak),
        pytest.param(6, 200, 4 * RATE, marks=pytest.mark.soak),
    ],
)
async def test_connections_are_reset_within_a_packet(
    ingestors: int,
    size: int,
    rate: float,
    make_settings: Make,
    broker: Broker,
    database: Database,
    start_ingestor: Start,
) -> None:
    """Reset within the header, the topic and the payload of a PUBLISH."""
    await add_devices(database)
    chance = random.Random(7)
    async with running(MqttProxy(broker)) as proxy:
        settings = make_settings(mqtt_url=f"mqtt://127.0.0.1:{proxy.port}")
        process = start_ingestor(settings)
        await process.until_ready()
        async with publishing(broker, size=size, rate=rate) as stream:
            for turn in range(ingestors):
                if turn:
                    await expect_a_good_end(process)
                    process = start_ingestor(settings)
                    await process.until_ready()
                for _ in range(RESETS):
                    await stream.grows(20)
                    proxy.break_off = chance.randrange(1, LARGEST_PART * size)
                    async with asyncio.timeout(HANG_S):
                        await proxy.was_cut.wait()
                    proxy.was_cut.clear()
                    await process.until_ready()
        await expect_each_once(database, stream)
        await expect_a_good_end(process)


@pytest.mark.parametrize("times", [4, pytest.param(40, marks=pytest.mark.soak)])
async def test_acknowledgements_are_lost_with_the_connection(
    times: int, make_settings: Make, broker: Broker, database: Database, start_ingestor: Start
) -> None:
    """Stored messages that are redelivered do not count as received."""
    await add_devices(database)
    async with running(MqttProxy(broker)) as proxy:
        process = start_ingestor(make_settings(mqtt_url=f"mqtt://127.0.0.1:{proxy.port}"))
        await process.until_ready()
        async with publishing(broker) as stream:
            for _ in range(times):
                proxy.mute()
                await stream.grows(2000)
                await proxy.cut_and_await_the_next()
                await process.until_ready()
        await expect_each_once(database, stream)
        figures = await expect_counts_to_add_up(process.port)
        assert figures[REDELIVERED] >= 1000 * times
        assert figures["devicestat_ingest_readings_received_total"] == stream.count + stream.marked
        assert figures["devicestat_ingest_readings_duplicate_total"] == 0
        await expect_a_good_end(process)


@pytest.mark.soak
async def test_the_network_falls_silent_while_a_backlog_drains(
    make_settings: Make, impatient_broker: EmbeddedMosquitto, database: Database, start_ingestor: Start
) -> None:
    """Mosquitto 2.0.11 ignores Receive Maximum for a backlog. The delivered part is stored, and its acknowledgements
    are lost. It must not exceed the packets in the journal."""
    await add_devices(database)
    broker = Broker(impatient_broker.host, impatient_broker.port)
    async with running(MqttProxy(broker)) as proxy:
        settings = make_settings(mqtt_url=f"mqtt://127.0.0.1:{proxy.port}")
        process = start_ingestor(settings)
        await process.until_ready()
        process.kill()
        async with publishing(broker, at_least=120_000, rate=FLAT_OUT) as stream:
            pass
        process = start_ingestor(settings)

        async def drains() -> bool:
            return (await database.execute("SELECT FROM readings OFFSET 20000 LIMIT 1")).rowcount > 0

        await eventually(drains, bool)
        proxy.silence()
        await until_not_ready(process.port)
        proxy.speak()
        await process.until_ready()
        await expect_each_once(database, stream)
        await expect_a_good_end(process)
