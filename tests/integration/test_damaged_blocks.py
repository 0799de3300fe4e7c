"""An analysis that needs an array of a damaged block fails, and names the device. It never computes a figure of it."""

import httpx
import numpy as np
import pytest

from query_api.statistics.analysis import analyse
from query_api.statistics.blocks.building import Columns
from query_api.statistics.blocks.layout import STANDARD
from query_api.statistics.blocks.reading.slices import DamagedBlocks
from query_api.statistics.histogram import read_histogram
from shared.readings.model import SECOND, to_datetime
from tests.blocks import sealed, stored
from tests.conftest import Database

START = 1_769_860_800 * SECOND
COUNT = 3000
DAMAGES = (
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
    with pytest.raises(DamagedBlocks, match="of device 1: `devicestat blocks check --mend`"):
        await analyse(device, 1, None, None)
    with pytest.raises(DamagedBlocks):
        await read_histogram(device, 1, None, None, ("y",), 7, None)


@pytest.mark.parametrize("axis", range(4))
async def test_columns(device: Database, axis: int) -> None:
    """Of a period that begins amid the block."""
    await device.execute("DELETE FROM block_columns WHERE axis = %s", (axis,))
    with pytest.raises(DamagedBlocks):
        await analyse(device, 1, to_datetime(START + 1000 * SECOND), None)


async def test_extremes(device: Database, api: httpx.AsyncClient) -> None:
    assert (await api.get("/stats/1/series?points=5")).status_code == 200
    await device.execute("DELETE FROM block_columns WHERE axis = 4")
    assert (await api.get("/stats/1/series?points=5")).status_code == 500
