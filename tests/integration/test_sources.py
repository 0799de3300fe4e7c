"""The header and the metric that say how many analysed readings came from blocks, and how many from rows."""

from datetime import UTC, datetime

import httpx
import numpy as np
import pytest

from query_api.statistics.blocks.building import Columns
from query_api.statistics.blocks.layout import STANDARD
from shared.readings.model import SECOND, to_microseconds
from tests.blocks import sealed, stored
from tests.conftest import Database

START = to_microseconds(datetime(2026, 1, 30, tzinfo=UTC))
DEVICES = (1, 2)
HEADER = "X-Analysis-Source"


@pytest.fixture
async def devices(database: Database) -> None:
    """Two devices with 1,200 sealed readings, 3 late ones and 300 that are not sealed, each; and one without readings.

    The sealed ones are of the first twenty minutes, and one of the late ones, too.
    """
    for device in DEVICES:
        given = Columns(START + SECOND * np.arange(1_500), *np.random.default_rng(device).normal(0, 1, (3, 1_500)))
        await stored(database, device, given)
        await sealed(database, device, START + 1_200 * SECOND, STANDARD, 1 << 18)
        await stored(database, device, Columns(START + np.array([-2, -1, 7]) * SECOND // 2, *np.ones((3, 3))))
    await database.execute("INSERT INTO devices (id, key, name) VALUES (3, '3', 'n')")


CASES = {
    "/stats/analysis/1": (1200, 303),
    "/stats/analysis/3": (0, 0),
    "/stats/analysis/1?start=2026-01-30T00:10:00Z&end=2026-01-30T00:15:00Z": (301, 0),
    "/stats/analysis/1?start=2026-01-30T00:20:00Z": (0, 300),
    "/stats/analysis?device_id=1&device_id=2": (2400, 606),
    "/stats/analysis?device_id=1&device_id=2&device_id=3&group_by=device": (2400, 606),
    "/stats/1/buckets?interval=PT10M": (1200, 303),
    "/stats/1/buckets?interval=PT30M&limit=1": (1200, 303),
    "/stats/3/buckets": (0, 0),
    "/stats/1/histogram?bins=7&axis=y": (1200, 303),
}


@pytest.mark.usefixtures("devices")
async def test_each_analysis_tells_its_source(api: httpx.AsyncClient) -> None:
    total_blocks = total_rows = 0
    for path, (blocks, rows) in CASES.items():
        answer = await api.get(path)
        assert answer.status_code == 200, path
        assert answer.headers[HEADER] == f"blocks={blocks}, rows={rows}", path
        total_blocks, total_rows = total_blocks + blocks, total_rows + rows
    metrics = (await api.get("/metrics")).text
    assert f'devicestat_api_analysed_readings_total{{source="blocks"}} {total_blocks}.0\n' in metrics
    assert f'devicestat_api_analysed_readings_total{{source="rows"}} {total_rows}.0\n' in metrics


@pytest.mark.usefixtures("devices")
async def test_other_answers_have_no_source(api: httpx.AsyncClient) -> None:
    for path in ("/stats/1", "/stats/analysis/9", "/stats/analysis/1?start=x"):
        assert HEADER not in (await api.get(path)).headers
    assert (await api.head("/stats/analysis/1")).headers[HEADER] == "blocks=1200, rows=303"


async def test_the_header_is_documented(api: httpx.AsyncClient) -> None:
    paths = (await api.get("/openapi.json")).json()["paths"]
    answers = {path: methods["get"]["responses"].get("200", {}) for path, methods in paths.items() if "get" in methods}
    documented = {path for path, answer in answers.items() if HEADER in answer.get("headers", {})}
    assert documented == {
        "/stats/analysis",
        "/stats/analysis/{device_id}",
        "/stats/{device_id}/buckets",
        "/stats/{device_id}/histogram",
    }
    for path, schema in (("/stats/analysis/{device_id}", "Analysis"), ("/stats/{device_id}/buckets", "Bucket")):
        assert schema in str(answers[path]["content"])
