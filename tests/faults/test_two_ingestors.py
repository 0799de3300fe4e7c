"""Two ingestors: only one can use a client id; in a group, each may be killed."""

import random
from collections.abc import Callable
from functools import partial

import pytest

from deploy.doctor.database import examine_database
from shared.settings import Settings
from shared.status.findings import Severity
from tests.conftest import Broker, Database
from tests.faults.stream import add_devices, expect_a_good_end, expect_counts_to_add_up, expect_each_once, publishing
from tests.ingestion import IngestorProcess, metrics
from tests.waiting import eventually

Make = Callable[..., Settings]
Start = Callable[..., IngestorProcess]

ACKNOWLEDGED = 100
"""Readings that are stored before the first kill. While the broker has received no acknowledgement, messages may be
stored twice (ADR 34)."""


async def reaches(process: IngestorProcess, readings: str, count: int) -> None:
    """Wait until the ingestor has counted this number of `readings` ("received" or "stored") since its start."""
    name = f"devicestat_ingest_readings_{readings}_total"
    await eventually(partial(metrics, process.port), lambda seen: seen[name] >= count)


@pytest.mark.parametrize("times", [2, pytest.param(40, marks=pytest.mark.soak)])
async def test_a_second_one_with_the_client_id_ends_the_first_with_a_clear_line(
    times: int, make_settings: Make, broker: Broker, database: Database, start_ingestor: Start
) -> None:
    await add_devices(database)
    older = start_ingestor(make_settings())
    await older.until_ready()
    async with publishing(broker) as stream:
        for _ in range(times):
            await stream.grows(1000)
            settings = make_settings()
            newer = start_ingestor(settings)
            await newer.until_ready()
            code, logged = await older.ended()
            assert code == 1, logged
            assert f"another client has connected with the client id '{settings.mqtt_client_id}'" in logged
            assert "Traceback" not in logged
            older = newer
    await expect_each_once(database, stream)
    (rivals,) = [found for found in await examine_database(make_settings()) if found.what == "ingestors"]
    assert rivals.severity is Severity.WARNING
    assert f" have used the client id {make_settings().mqtt_client_id} within ten minutes" in rivals.text
    await expect_a_good_end(older)


@pytest.mark.parametrize("kills", [3, pytest.param(60, marks=pytest.mark.soak)])
async def test_of_two_in_a_shared_subscription_one_is_killed_again_and_again(
    kills: int, make_settings: Make, broker: Broker, database: Database, start_ingestor: Start
) -> None:
    """Each has its own session and journal."""
    await add_devices(database)
    chance, given = random.Random(7), make_settings()
    members = [
        make_settings(mqtt_topic="$share/group/devices/+/stats", mqtt_client_id=f"{given.mqtt_client_id}-{n}")
        for n in range(2)
    ]
    processes = [start_ingestor(settings) for settings in members]
    for process in processes:
        await process.until_ready()
    async with publishing(broker) as stream:
        for process in processes:
            await reaches(process, "stored", ACKNOWLEDGED)
        for _ in range(kills):
            await stream.grows(chance.randrange(100, 4000))
            member = chance.randrange(2)
            processes[member].kill()
            await stream.grows(1000)
            processes[member] = start_ingestor(members[member])
            await processes[member].until_ready()
    await expect_each_once(database, stream)
    for process in processes:
        figures = await expect_counts_to_add_up(process.port)
        assert figures["devicestat_ingest_readings_received_total"] > 0
        await expect_a_good_end(process)


@pytest.mark.parametrize("kills", [1, 2])
async def test_one_in_a_shared_subscription_is_killed_again_before_it_has_stored_anything(
    kills: int, make_settings: Make, broker: Broker, database: Database, start_ingestor: Start
) -> None:
    """Nothing that it has received since its first kill is recorded. The eight messages whose acknowledgements it had
    held back were stored twice. The messages that are redelivered fill the window."""
    await add_devices(database)
    settings = make_settings(mqtt_topic="$share/group/devices/+/stats", mqtt_window=64)
    process = start_ingestor(settings)
    await process.until_ready()
    async with publishing(broker, rate=1000) as stream:
        await reaches(process, "stored", ACKNOWLEDGED)
        process.kill()
        async with database.transaction():
            await database.execute("LOCK TABLE readings IN EXCLUSIVE MODE")
            for _ in range(kills):
                process = start_ingestor(settings)
                await process.until_ready()
                await reaches(process, "received", 1)
                await stream.grows(100)
                process.kill()
        process = start_ingestor(settings)
        await process.until_ready()
    await expect_each_once(database, stream)
    figures = await expect_counts_to_add_up(process.port)
    assert figures["devicestat_ingest_messages_redelivered_total"] > 0
    assert figures["devicestat_ingest_messages_ambiguous_total"] == 0
    await expect_a_good_end(process)
