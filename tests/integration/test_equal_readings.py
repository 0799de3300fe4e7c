"""Equal readings without a timestamp are stored as distinct rows, in any process and at any time."""

import asyncio
from collections.abc import Callable

from shared.settings import Settings
from tests.conftest import Broker, Database
from tests.faults.stream import add_devices, expect_counts_to_add_up
from tests.ingestion import IngestorProcess
from tests.publisher import Message, publish
from tests.services import api
from tests.waiting import eventually

CLIENTS = 4
ARRAYS = 5
"""Of each client."""
SIZE = 5_000
POSTS = 20
POSTED = 100
READING = b'{"x":0,"y":0,"z":0}'


async def test_several_processes_and_the_api_store_each_of_them(
    make_settings: Callable[..., Settings],
    broker: Broker,
    database: Database,
    start_ingestor: Callable[..., IngestorProcess],
) -> None:
    await add_devices(database)
    settings = make_settings()
    process = start_ingestor(settings, "--processes", 2)
    await process.until_ready()
    array = Message(b"[" + b",".join([READING] * SIZE) + b"]")

    async def post() -> None:
        async with api(settings) as client:
            for _ in range(POSTS):
                readings = [{"device_id": 1, "x": 0, "y": 0, "z": 0}] * POSTED
                assert (await client.post("/stats", json=readings)).status_code == 201

    async with asyncio.TaskGroup() as group:
        group.create_task(post())
        for _ in range(CLIENTS):
            group.create_task(publish(broker.host, broker.port, *[array] * ARRAYS))

    async def rows() -> int:
        (row,) = await (await database.execute("SELECT count(*) FROM readings WHERE device_id = 1")).fetchall()
        return int(row[0])

    await eventually(rows, lambda count: count >= CLIENTS * ARRAYS * SIZE + POSTS * POSTED)
    assert await rows() == CLIENTS * ARRAYS * SIZE + POSTS * POSTED
    figures = await expect_counts_to_add_up(settings.ingestor_metrics_port)
    assert sum(n for name, n in figures.items() if name.startswith("devicestat_ingest_readings_duplicate")) == 0
    code, logged = await process.end()
    assert code == 0, logged
