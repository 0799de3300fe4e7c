"""An ingestor takes over from another one that is slow, frozen or no longer needed, and after a lost session."""

import asyncio
import signal
import socket
from collections.abc import Callable

import mqtt5
import pytest

from ingestor.service import Ingestor
from ingestor.session.processes import ALONE
from ingestor.session.session import Session
from shared.postgres.connections import connect
from shared.readings.announce import Interest
from shared.settings import Settings
from tests.conftest import Broker, Database
from tests.faults.stream import IN_FLIGHT, add_devices, expect_a_good_end, expect_each_once, publishing
from tests.ingestion import IngestorProcess, metrics
from tests.ports import free_port
from tests.publisher import Message, publish
from tests.waiting import eventually

Make = Callable[..., Settings]
Start = Callable[..., IngestorProcess]
AT_REST = Message(b'{"x":0,"y":0,"z":0}')
SLOW_S = 0.5
_WAITING = "SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"


async def until_one_waits(database: Database) -> None:
    """Wait until a connection waits for a lock."""

    async def waits() -> bool:
        return (await database.execute(_WAITING)).rowcount > 0

    await eventually(waits, bool)


async def rows(database: Database, which: str = "true") -> int:
    query = f"SELECT count(*) FROM readings WHERE {which}"  # noqa: S608  # the test's own words
    (row,) = await (await database.execute(query.encode())).fetchall()
    return int(row[0])


async def test_the_older_one_comes_back_while_the_newer_one_is_slow(
    make_settings: Make, broker: Broker, database: Database, start_ingestor: Start
) -> None:
    """The older ingestor stores messages that were also delivered to the newer one, which must not store them again."""
    await add_devices(database)
    older = start_ingestor(make_settings())
    await older.until_ready()
    newer = Ingestor(make_settings(ingestor_metrics_port=free_port()), Session, ALONE.clock(), Interest())
    begin = newer.writer.begin_session

    async def slowly() -> None:
        await asyncio.sleep(SLOW_S)
        await begin()

    newer.writer.begin_session = slowly  # type: ignore[method-assign]
    stop = asyncio.Event()
    async with publishing(broker) as stream:
        await stream.grows(2000)
        running = asyncio.create_task(newer.run(stop), name="the newer one")
        code, logged = await older.ended()
        await stream.grows(3000)
    await expect_each_once(database, stream)
    stop.set()
    await running
    assert code == 1, logged


async def test_a_process_that_was_retired_and_still_lives_stops(
    make_settings: Make, broker: Broker, database: Database, start_ingestor: Start
) -> None:
    """As on a separate host, or after its command was killed."""
    await add_devices(database)
    old = [
        start_ingestor(make_settings(ingestor_metrics_port=free_port()), "--processes", 2, "--process", number)
        for number in (1, 2)
    ]
    for process in old:
        await process.until_ready()
    alone = start_ingestor(make_settings())
    async with publishing(broker):
        for process in old:
            code, logged = await process.ended()
            assert code == 1
            assert "another client has connected with the client id" in logged
        await alone.until_ready()
    await publish(broker.host, broker.port, *[Message(b'{"x":1,"y":1,"z":1}')] * 500)
    await eventually(lambda: rows(database, "x = 1 AND y = 1"), lambda count: count >= 500)
    await expect_a_good_end(alone)
    assert await rows(database, "x = 1 AND y = 1") == 500


@pytest.mark.soak
async def test_the_older_one_is_frozen_in_its_transaction(
    make_settings: Make, broker: Broker, database: Database, database_url: str, start_ingestor: Start
) -> None:
    """The database ends its transaction after a while, and the newer ingestor continues."""
    await add_devices(database)
    older = start_ingestor(make_settings())
    await older.until_ready()
    async with await connect(database_url, "test") as locker, locker.transaction():
        await locker.execute("LOCK TABLE ingest_journal IN EXCLUSIVE MODE")
        await publish(broker.host, broker.port, *[AT_REST] * 5)
        await until_one_waits(database)
        older.process.send_signal(signal.SIGSTOP)
    newer = start_ingestor(make_settings(ingestor_metrics_port=free_port()))
    await eventually(lambda: rows(database), lambda count: count == 5)
    older.process.send_signal(signal.SIGCONT)
    code, _ = await older.ended()
    assert code == 1
    assert await rows(database) == 5
    await expect_a_good_end(newer)


async def test_one_is_killed_while_it_learns_that_its_session_is_lost(
    make_settings: Make, broker: Broker, database: Database, database_url: str, start_ingestor: Start
) -> None:
    """Packet ids start again, and idle devices send messages that are in the journal of the old session."""
    await add_devices(database)
    settings = make_settings()
    first = start_ingestor(settings)
    await first.until_ready()
    await publish(broker.host, broker.port, *[AT_REST] * 1000)
    await eventually(lambda: rows(database), lambda count: count == 1000)
    await first.end()
    end_session(broker, settings.mqtt_client_id)
    async with await connect(database_url, "test") as locker:
        async with locker.transaction():
            await locker.execute("LOCK TABLE ingest_journal IN EXCLUSIVE MODE")
            second = start_ingestor(settings)
            await until_one_waits(database)
            second.kill()
        third = start_ingestor(settings)
        await third.until_ready()
        async with locker.transaction():
            await locker.execute("LOCK TABLE readings IN EXCLUSIVE MODE")
            await publish(broker.host, broker.port, *[AT_REST] * 300)
            await eventually(lambda: metrics(third.port), lambda figures: figures[IN_FLIGHT] == 300)
            third.kill()
    last = start_ingestor(settings)
    await eventually(lambda: rows(database), lambda count: count >= 1300)
    await expect_a_good_end(last)
    assert await rows(database) == 1300


def end_session(broker: Broker, client_id: str) -> None:
    """Make the broker delete the session, as after its expiry."""
    with socket.create_connection((broker.host, broker.port)) as connection:
        connection.sendall(mqtt5.ConnectPacket(client_id, clean_start=True).write())
        connection.recv(1024)
        connection.sendall(mqtt5.DisconnectPacket().write())


@pytest.mark.soak
async def test_a_database_that_stands_still_is_no_silence_of_the_broker(
    make_settings: Make, broker: Broker, database: Database, database_url: str, start_ingestor: Start
) -> None:
    """Reading is paused while the ingestor waits for the SUBACK, so the connection stays open."""
    await add_devices(database)
    settings = make_settings()
    first = start_ingestor(settings)
    await first.until_ready()
    await first.end()
    array = b"[" + b",".join([AT_REST.payload] * 10_000) + b"]"
    await publish(broker.host, broker.port, *[Message(array)] * 30)
    async with await connect(database_url, "test") as locker, locker.transaction():
        await locker.execute("LOCK TABLE readings IN EXCLUSIVE MODE")
        second = start_ingestor(settings)
        await until_one_waits(database)
        await asyncio.sleep(15)  # longer than the time limit of an answer; no event marks it
    await eventually(lambda: rows(database), lambda count: count == 300_000)
    await second.until_ready()
    assert "did not respond" not in second.logged
    await expect_a_good_end(second)
