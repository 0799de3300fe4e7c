"""PostgreSQL crashes, is down, or its response is lost: no reading is lost, and none is stored twice."""

import asyncio
import signal
from collections.abc import Callable

import psutil
import pytest

from deploy.local.mosquitto import EmbeddedMosquitto
from deploy.local.postgres import EmbeddedPostgres
from ingestor.delivery.backlog import HIGH_READINGS
from shared.postgres.connections import connect
from shared.settings import Settings
from tests.conftest import Broker, Database
from tests.faults.memory import BOUND, watched
from tests.faults.mqtt_proxy import CONNECT, MqttProxy
from tests.faults.stream import (
    FLAT_OUT,
    IN_FLIGHT,
    add_devices,
    expect_a_good_end,
    expect_counts_to_add_up,
    expect_each_once,
    publishing,
)
from tests.ingestion import IngestorProcess, until_not_ready
from tests.proxy import open_postgres, running, running_proxy, through
from tests.waiting import HANG_S, eventually

Make = Callable[..., Settings]
Start = Callable[..., IngestorProcess]
COMMIT = b"COMMIT\0"
"""COMMIT as it is sent; not the ON COMMIT of a temporary table."""


def stop_immediately(postgres: EmbeddedPostgres) -> None:
    """Stop the server like `pg_ctl stop -m immediate`."""
    postmaster = psutil.Process(postgres.pid)
    postmaster.send_signal(signal.SIGQUIT)
    postmaster.wait(HANG_S)
    postgres.kill()


def kill_postmaster(postgres: EmbeddedPostgres) -> None:
    """Kill the postmaster. Its children end later. Until then they use the shared memory, and no other postmaster can
    start."""
    postmaster = psutil.Process(postgres.pid)
    postmaster.suspend()  # no children left
    children = postmaster.children()
    postgres.kill()
    _, alive = psutil.wait_procs(children, HANG_S)
    assert not alive


@pytest.mark.parametrize("crashes", [3, pytest.param(50, marks=pytest.mark.soak)])
async def test_the_server_crashes_again_and_again(
    crashes: int, make_settings: Make, broker: Broker, own_postgres: EmbeddedPostgres, start_ingestor: Start
) -> None:
    process = start_ingestor(make_settings(database_url=own_postgres.url))
    await process.until_ready()
    async with publishing(broker) as stream:
        for crash in range(crashes):
            await stream.grows(2000)
            await asyncio.to_thread(kill_postmaster if crash % 2 else stop_immediately, own_postgres)
            await until_not_ready(process.port)
            await stream.grows(1000)
            await asyncio.to_thread(own_postgres.start)
            await process.until_ready()
    async with await connect(own_postgres.url, "test") as database:
        await expect_each_once(database, stream)
    await expect_a_good_end(process)


@pytest.mark.parametrize("times", [10, pytest.param(200, marks=pytest.mark.soak)])
async def test_a_commit_or_the_answer_to_it_is_lost(
    times: int, make_settings: Make, broker: Broker, database: Database, database_url: str, start_ingestor: Start
) -> None:
    """Only its journal tells the ingestor whether the transaction was committed."""
    await add_devices(database)
    async with running_proxy(lambda: open_postgres(database_url)) as proxy:
        process = start_ingestor(make_settings(database_url=through(proxy, database_url)))
        await process.until_ready()
        async with publishing(broker) as stream:
            for turn in range(times):
                await stream.grows(500)
                if turn % 2:
                    proxy.cut_before = COMMIT
                else:
                    proxy.cut_after = COMMIT
                async with asyncio.timeout(HANG_S):
                    await proxy.was_cut.wait()
                proxy.was_cut.clear()
        await expect_each_once(database, stream)
        assert process.logged.count("the batch is already committed") == times - times // 2
        await expect_a_good_end(process)


@pytest.mark.parametrize(
    ("pings", "messages"), [(4, 2 * HIGH_READINGS), pytest.param(12, 1_000_000, marks=pytest.mark.soak)]
)
async def test_the_server_is_away_for_long(
    pings: int,
    messages: int,
    make_settings: Make,
    impatient_broker: EmbeddedMosquitto,
    own_postgres: EmbeddedPostgres,
    start_ingestor: Start,
) -> None:
    """The ingestor sends a ping every five seconds. Without one for fifteen, the broker would end the connection."""
    broker = Broker(impatient_broker.host, impatient_broker.port)
    async with running(MqttProxy(broker)) as proxy:
        settings = make_settings(mqtt_url=f"mqtt://127.0.0.1:{proxy.port}", database_url=own_postgres.url)
        process = start_ingestor(settings)
        await process.until_ready()
        async with publishing(broker, rate=FLAT_OUT) as stream, watched(process.process.pid) as memory:
            await stream.grows(1000)
            await asyncio.to_thread(own_postgres.stop)
            await until_not_ready(process.port)
            async with proxy.nothing_acknowledged():
                pinged = await proxy.pings()
                await stream.grows(messages)
                await stream.halt()  # the ingestor reads no more: other messages would only wait at the broker
                await eventually(proxy.pings, lambda count: count >= pinged + pings)
                assert (await expect_counts_to_add_up(process.port))[IN_FLIGHT] <= 1.1 * HIGH_READINGS
            await asyncio.to_thread(own_postgres.start)
            await process.until_ready()
            async with await connect(own_postgres.url, "test") as database:
                await expect_each_once(database, stream)
        assert proxy.sent[CONNECT] == 1
        assert "timeout" not in impatient_broker.log.read_text()
        assert memory.peak < BOUND
        await expect_a_good_end(process)
