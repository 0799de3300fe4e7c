"""An analysis that needs an array of a damaged block fails, and names the device. It never computes a figure of it.

The worker checks the block next, and builds it anew.
"""

import httpx
import numpy as np
import pytest

from query_api.statistics.analysis import analyse, analyse_each
from query_api.statistics.blocks.building import Columns
from query_api.statistics.blocks.damage import DamagedBlocks
from query_api.statistics.blocks.layout import STANDARD
from query_api.statistics.blocks.reading.items import Items
from query_api.statistics.blocks.reading.snapshot import snapshot
from query_api.statistics.blocks.reading.statistics import Limits, Needs, read_statistics
from query_api.statistics.blocks.sealing.merging import merge
from query_api.statistics.histogram import read_histogram
from query_api.worker.maintenance.scrub import Scrub
from query_api.worker.metrics import WorkerMetrics
from shared.postgres.connections import connect
from shared.readings.model import SECOND, to_datetime
from tests.blocks import SMALL, assert_sealed, sealed, stored
from tests.conftest import Database
from tests.roles import url_as

START = 1_769_860_800 * SECOND
COUNT = 3000
SUSPECTS = "SELECT device_id, level, extract(epoch FROM first)::integer FROM suspected_blocks ORDER BY 1, 2, 3"
DAMAGES = (
    "UPDATE blocks SET marks = substr(marks, 1, octet_length(marks) - 8)",
    "UPDATE blocks SET marks = marks || marks",
    "UPDATE blocks SET marks = ''",
    "DELETE FROM block_values WHERE axis = 1",
    "UPDATE block_values SET sorted = substr(sorted, 1, octet_length(sorted) - 5)",
    "UPDATE block_values SET sorted = substr(sorted, 1, frame_bytes)",
    "UPDATE block_values SET coding = 7",
)


@pytest.fixture
async def device(database: Database) -> Database:
    columns = Columns(START + SECOND * np.arange(COUNT), *np.random.default_rng(1).normal(0, 1, (3, COUNT)))
    await stored(database, 1, columns)
    await sealed(database, 1, START + COUNT * SECOND, STANDARD, 1 << 18)
    return database


@pytest.mark.parametrize("damage", DAMAGES)
async def test_sorted_values(device: Database, damage: str) -> None:
    await device.execute(damage.encode())
    with pytest.raises(DamagedBlocks, match="of device 1: the worker builds"):
        await analyse(device, 1, None, None)
    with pytest.raises(DamagedBlocks):
        await read_histogram(device, 1, None, None, ("y",), 7, None)


@pytest.mark.parametrize("axis", range(4))
async def test_columns(device: Database, axis: int) -> None:
    """Of a period that begins amid the block."""
    await device.execute("DELETE FROM block_columns WHERE axis = %s", (axis,))
    with pytest.raises(DamagedBlocks):
        await analyse(device, 1, to_datetime(START + 1000 * SECOND), None)


TIMES = (
    "UPDATE blocks SET times = substr(times, 1, octet_length(times) - 8)",
    "UPDATE blocks SET times = times || times",
    "UPDATE blocks SET times = substr(times, 1, 3)",
    "UPDATE blocks SET times = ''",
)


@pytest.mark.parametrize("times", TIMES)
async def test_kept_times(device: Database, times: str) -> None:
    await device.execute(times.encode())
    with pytest.raises(DamagedBlocks, match="of device 1: "):
        await analyse(device, 1, to_datetime(START + 1000 * SECOND), None)


@pytest.mark.parametrize("damage", ["DELETE FROM block_columns WHERE axis = 4", *TIMES])
async def test_series(device: Database, api: httpx.AsyncClient, damage: str) -> None:
    assert (await api.get("/stats/1/series?points=5")).status_code == 200
    await device.execute(damage.encode())
    answer = await api.get("/stats/1/series?points=5")
    assert answer.status_code == 500
    assert answer.json()["detail"].startswith("stored arrays of device 1 are damaged. ")
    assert len(await (await device.execute(SUSPECTS)).fetchall()) == 1


async def small_blocks(database: Database) -> None:
    """Three devices with blocks of all levels."""
    for number in range(1, 4):
        values = np.random.default_rng(number).normal(0, 1, (3, 1000))
        await stored(database, number, Columns(START + SECOND * np.arange(1000), *values))
        await sealed(database, number, START + 1000 * SECOND)
        await merge(database, number, SMALL)


BLOCK = "(SELECT first FROM blocks WHERE device_id = 2 AND level = {level} ORDER BY first OFFSET 1 LIMIT 1)"
ONE = "WHERE device_id = 2 AND level = {level} AND first = " + BLOCK


@pytest.mark.parametrize(
    ("damage", "level"),
    [
        ("UPDATE blocks SET marks = '' ", 3),
        ("UPDATE block_values SET coding = 7", 3),
        ("UPDATE block_values SET guides = ''", 3),
        ("UPDATE blocks SET times = ''", 1),
        ("DELETE FROM block_columns", 1),
    ],
)
async def test_the_damaged_block_of_many_is_found_and_mended(
    database: Database, database_url: str, damage: str, level: int
) -> None:
    """Only it is checked. The API's role may ask for that, and do nothing else."""
    await small_blocks(database)
    (start,) = (await (await database.execute(BLOCK.format(level=level).encode())).fetchone()) or (None,)
    assert start is not None
    await database.execute(f"{damage} {ONE.format(level=level)}".encode())
    begins = start.timestamp() * SECOND + (SECOND if level == 1 else 0)
    items = Items.each([1, 2, 3], int(begins), None)
    limits = Limits(whole=0, few=0)

    async with await connect(url_as(database_url, "api"), "reader") as reader:
        with pytest.raises(DamagedBlocks, match=r"^a block is damaged, of device 2: "):
            async with snapshot(reader):
                await read_statistics(reader, items, Needs((0.5,)), SMALL, limits)
    suspects = await (await database.execute(SUSPECTS)).fetchall()
    assert suspects == [(2, level, int(start.timestamp()))]

    metrics = WorkerMetrics()
    async with await connect(url_as(database_url, "worker"), "worker") as worker:
        await Scrub(metrics, SMALL, share=1.0).scrub(worker)
    assert metrics.registry.get_sample_value("devicestat_worker_scrubbed_blocks_total") == 2, "one is drawn at random"
    assert await (await database.execute(SUSPECTS)).fetchall() == []
    assert sum(await assert_sealed(database, 2)) > 0
    async with snapshot(database):
        await read_statistics(database, items, Needs((0.5,)), SMALL, limits)


async def test_a_locked_device_is_checked_later(device: Database, database_url: str) -> None:
    await device.execute("DELETE FROM block_values WHERE axis = 1")
    with pytest.raises(DamagedBlocks):
        await analyse_each(device, [1], None, None)
    metrics = WorkerMetrics()
    async with await connect(url_as(database_url, "worker"), "worker") as worker:
        async with device.transaction():
            await device.execute("SELECT FROM sealed_devices FOR UPDATE")
            await Scrub(metrics, share=1.0).scrub(worker)
        assert len(await (await device.execute(SUSPECTS)).fetchall()) == 1
        await Scrub(metrics, share=1.0).scrub(worker)
    assert await (await device.execute(SUSPECTS)).fetchall() == []
    assert (await analyse(device, 1, None, None)).x.count == COUNT


async def test_a_damaged_block_of_a_deleted_device_is_forgotten(device: Database) -> None:
    await device.execute("INSERT INTO suspected_blocks VALUES (7, 1, now()), (1, 3, now())")
    await Scrub(WorkerMetrics(), share=1.0).scrub(device)
    assert await (await device.execute(SUSPECTS)).fetchall() == []
    await assert_sealed(device, 1, STANDARD)
