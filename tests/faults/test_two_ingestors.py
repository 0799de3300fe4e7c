"""Two ingestors: only one can use a client id; in a group, each may be killed."""

import random
from collections.abc import Callable

import pytest

from deploy.doctor.database import examine_database
from shared.settings import Settings
from shared.status.findings import Severity
from tests.conftest import Broker, Database
from tests.faults.stream import add_devices, expect_a_good_end, expect_counts_to_add_up, expect_each_once, publishing
from tests.ingestion import IngestorProcess

Make = Callable[..., Settings]
Start = Callable[..., IngestorProcess]


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
