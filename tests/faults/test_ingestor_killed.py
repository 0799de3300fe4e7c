"""SIGKILL of the ingestor: no reading is lost, and none is stored twice."""

import asyncio
import operator
import random
from collections.abc import Callable
from functools import partial

import pytest

from shared.settings import Settings
from tests.conftest import Broker, Database
from tests.faults.mqtt_proxy import MqttProxy
from tests.faults.stream import add_devices, expect_a_good_end, expect_counts_to_add_up, expect_each_once, publishing
from tests.ingestion import IngestorProcess, running_ingestor
from tests.proxy import running
from tests.publisher import Message, publish, publish_lines
from tests.waiting import eventually

LONGEST_S = 0.4
"""Time between readiness of the ingestor and SIGKILL."""


@pytest.mark.parametrize(
    ("kills", "messages", "rate"),
    [(8, 20_000, 2_000), pytest.param(200, 1_000_000, 5_000, marks=pytest.mark.soak)],
)
async def test_at_random_moments_in_a_stream(
    kills: int,
    messages: int,
    rate: int,
    make_settings: Callable[..., Settings],
    broker: Broker,
    database: Database,
    start_ingestor: Callable[..., IngestorProcess],
) -> None:
    await add_devices(database)
    settings, chance = make_settings(), random.Random(7)
    process = start_ingestor(settings)
    await process.until_ready()
    async with publishing(broker, at_least=messages, rate=rate) as stream:
        for _ in range(kills):
            await stream.grows()
            await asyncio.sleep(chance.uniform(0, LONGEST_S))  # the time of the fault, not a wait
            process.kill()
            process = start_ingestor(settings)
            if chance.random() < 0.8:  # the others during their start
                await process.until_ready()
        await process.until_ready()
    await expect_each_once(database, stream)
    await expect_a_good_end(process)


async def test_in_a_flood_of_refused_messages(
    make_settings: Callable[..., Settings],
    broker: Broker,
    database: Database,
    start_ingestor: Callable[..., IngestorProcess],
) -> None:
    """Most dead letters are only counted; each counts once."""
    await database.execute("INSERT INTO devices (id, key, name) VALUES (2, '2', 'marker')")  # no device has the key 1
    settings, chance = make_settings(dead_letters_per_minute=20), random.Random(7)
    process = start_ingestor(settings)
    await process.until_ready()

    async def all_marked() -> bool:
        (row,) = await (await database.execute("SELECT count(*) FROM readings")).fetchall()
        return bool(row[0] == stream.marked)

    async with publishing(broker, at_least=5_000, rate=1_000) as stream:
        for _ in range(6):
            await stream.grows()
            await asyncio.sleep(chance.uniform(0, LONGEST_S))  # the time of the fault, not a wait
            process.kill()
            process = start_ingestor(settings)
            await process.until_ready()
    await stream.mark()
    await eventually(all_marked, bool)
    await expect_a_good_end(process)
    query = "SELECT sum(readings)::int, sum(messages)::int, count(*) FROM dead_letters WHERE reason = 'unknown_device'"
    ((readings, messages, rows),) = await (await database.execute(query)).fetchall()
    assert readings == messages == stream.count
    assert rows <= 7 * (20 + 1)  # for each start


async def test_with_a_backlog_of_equal_readings_that_is_longer_than_the_packet_ids(
    make_settings: Callable[..., Settings],
    broker: Broker,
    database: Database,
    start_ingestor: Callable[..., IngestorProcess],
) -> None:
    """Equal messages differ only in their order. Mosquitto sends more of the backlog than Receive Maximum allows, so
    packet ids repeat among the redelivered messages."""
    await add_devices(database)
    settings, count = make_settings(batch_max_readings=1000), 80_000

    async def rows() -> int:
        (row,) = await (await database.execute("SELECT count(*) FROM readings WHERE device_id = 1")).fetchall()
        return int(row[0])

    async def is_marked() -> bool:
        return (await database.execute("SELECT FROM readings WHERE device_id = 2")).rowcount > 0

    async with running_ingestor(settings):
        pass  # its session exists
    await publish_lines(broker.host, broker.port, "devices/1/stats", [b'{"x":1,"y":2,"z":3}'] * count)
    for part in (0.1, 0.4, 0.7):
        process = start_ingestor(settings)
        await eventually(rows, partial(operator.lt, part * count))
        process.kill()
    async with running_ingestor(settings):
        await publish(broker.host, broker.port, Message(b'{"x":2,"y":2,"z":2}', "devices/2/stats"))
        await eventually(is_marked, bool)
    assert await rows() == count


async def test_once_its_acknowledgements_were_lost(
    make_settings: Callable[..., Settings],
    broker: Broker,
    database: Database,
    start_ingestor: Callable[..., IngestorProcess],
) -> None:
    """The new process knows what the previous one has stored."""
    await add_devices(database)
    async with running(MqttProxy(broker)) as proxy:
        settings = make_settings(mqtt_url=f"mqtt://127.0.0.1:{proxy.port}")
        process = start_ingestor(settings)
        await process.until_ready()
        proxy.mute()
        async with publishing(broker, at_least=1000) as stream:
            pass
        await expect_each_once(database, stream)
        process.kill()
        process = start_ingestor(settings)
        await process.until_ready()
        await expect_each_once(database, stream)
        figures = await expect_counts_to_add_up(process.port)
        assert figures["devicestat_ingest_messages_redelivered_total"] >= 1000
        await expect_a_good_end(process)
