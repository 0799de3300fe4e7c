"""Readings as Arrow and Parquet, and the refusal without pyarrow."""

import io
import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pyarrow as pa
import pytest
from pyarrow import ipc, parquet

from query_api.readings.formats import tables
from query_api.readings.formats.negotiation import ALL
from query_api.readings.formats.tables import ARROW_BATCH_ROWS, PARQUET_BATCH_ROWS
from tests.conftest import Database

ARROW, PARQUET = tables.ARROW.media_type, tables.PARQUET.media_type
NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)


async def store(api: httpx.AsyncClient, device: int, count: int) -> None:
    step = timedelta(hours=7 if count <= 1000 else 0, microseconds=1)
    given = [
        {"device_id": device, "x": n % 1000 / 7, "y": -n % 1000, "z": 1e-7 * n, "timestamp": at.isoformat()}
        for n, at in ((n, NOON + step * n) for n in range(count))
    ]
    assert (await api.post("/stats", json=given)).status_code == 201


async def fill(database: Database, device: int, count: int) -> None:
    await database.execute(
        "INSERT INTO readings (device_id, recorded_at, received_at, x, y, z)"
        " SELECT %s, now() - n * interval '1 us', now(), n %% 900, 0, 0 FROM generate_series(1, %s) AS n",
        (device, count),
    )
    await database.execute("SELECT find_device_extents()")


async def table(api: httpx.AsyncClient, address: str, media_type: str) -> pa.Table:
    answer = await api.get(address, headers={"accept": media_type})
    assert (answer.status_code, answer.headers["content-type"]) == (200, media_type)
    assert answer.headers["vary"] == "Accept"
    if media_type == ARROW:
        return ipc.open_stream(answer.content).read_all()
    return parquet.read_table(io.BytesIO(answer.content))


async def listed(api: httpx.AsyncClient, address: str) -> list[dict[str, Any]]:
    rows = (await api.get(address)).json()
    return [{**row, "timestamp": datetime.fromisoformat(row["timestamp"])} for row in rows]


async def test_times_in_a_zone(api: httpx.AsyncClient, device: int) -> None:
    """At the end of summer time, 02:30 is there twice."""
    at = ["2025-10-26T00:30:00Z", "2025-10-26T01:30:00.25Z", "2026-01-31T12:00:00Z"]
    given = [{"device_id": device, "x": n, "y": 0, "z": 0, "timestamp": at[n]} for n in range(3)]
    assert (await api.post("/stats", json=given)).status_code == 201
    zone = "timezone=Europe/Berlin"
    local = [
        "2025-10-26T02:30:00.000000+02:00", "2025-10-26T02:30:00.250000+01:00", "2026-01-31T13:00:00.000000+01:00",
    ]  # fmt: skip
    csv = (await api.get(f"/stats/{device}.csv?{zone}")).text.splitlines()[1:]
    assert [line.rpartition(",")[2] for line in csv] == local
    newest = (await api.get(f"/stats/{device}.csv?{zone}&order=desc")).text.splitlines()[1:]
    assert newest == csv[::-1]
    lines = (await api.get(f"/stats/{device}.ndjson?{zone}")).text.splitlines()
    assert [json.loads(line)["timestamp"] for line in lines] == local
    for media_type in (ARROW, PARQUET):
        found = await table(api, f"/stats/{device}?{zone}", media_type)
        assert str(found.schema.field("timestamp").type) == "timestamp[us, tz=Europe/Berlin]"
        assert [moment.isoformat(timespec="microseconds") for moment in found["timestamp"].to_pylist()] == local
    utc = (await api.get(f"/stats/{device}.csv?timezone=UTC")).text
    assert utc == (await api.get(f"/stats/{device}.csv")).text
    assert (await api.get(f"/stats/{device}?{zone}")).json()[0]["timestamp"] == "2025-10-26T00:30:00.000000Z"
    refused = await api.get(f"/stats/{device}.csv?timezone=Berlin")
    assert (refused.status_code, [error["field"] for error in refused.json()["errors"]]) == (422, ["timezone"])


@pytest.mark.parametrize("media_type", [ARROW, PARQUET])
async def test_tables_equal_the_pages(api: httpx.AsyncClient, device: int, media_type: str) -> None:
    await store(api, device, 300)
    for query in ("", "?order=desc", "?start=2026-02-10&end=2026-03-05", "?start=2027-01-01"):
        address = f"/stats/{device}{query}"
        assert (await table(api, address, media_type)).to_pylist() == await listed(api, address)


@pytest.mark.parametrize("media_type", [ARROW, PARQUET])
async def test_types(api: httpx.AsyncClient, device: int, media_type: str) -> None:
    expected = {name: pa.float64() for name in "xyz"} | {"id": pa.int64(), "device_id": pa.int64()}
    found = await table(api, f"/stats/{device}", media_type)
    assert {field.name: field.type for field in found.schema} == expected | {"timestamp": pa.timestamp("us", tz="UTC")}
    assert not any(field.nullable for field in found.schema)
    assert found.num_rows == 0


async def test_batches_are_bounded(api: httpx.AsyncClient, device: int, database: Database) -> None:
    count = 4 * PARQUET_BATCH_ROWS
    await fill(database, device, count)
    address = f"/stats/{device}"
    arrow = ipc.open_stream((await api.get(address, headers={"accept": ARROW})).content)
    batches = [batch.num_rows for batch in arrow]
    file = parquet.ParquetFile(io.BytesIO((await api.get(address, headers={"accept": PARQUET})).content))
    groups = [file.metadata.row_group(n).num_rows for n in range(file.num_row_groups)]
    for sizes, most in ((batches, ARROW_BATCH_ROWS), (groups, PARQUET_BATCH_ROWS)):
        assert sum(sizes) == count
        assert max(sizes) < most + 2000  # a block of COPY is a little less than two thousand rows
        assert len(sizes) > 3


async def test_unknown_media_types_are_not_acceptable(api: httpx.AsyncClient, device: int) -> None:
    for accept in ("image/png", "application/json;q=0", "text/html, application/xml;q=0.9"):
        answer = await api.get(f"/stats/{device}", headers={"accept": accept})
        assert (answer.status_code, answer.json()["type"]) == (406, "/problems/not-acceptable")
        assert all(form.media_type in answer.json()["detail"] for form in ALL)
    for accept in ("*/*", "", "text/html, */*;q=0.1"):
        answer = await api.get(f"/stats/{device}", headers={"accept": accept})
        assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")


async def test_without_pyarrow_the_refusal_names_the_extra(
    api: httpx.AsyncClient, device: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)  # makes the import fail
    for media_type in (ARROW, PARQUET):
        answer = await api.get(f"/stats/{device}", headers={"accept": media_type})
        assert (answer.status_code, answer.json()["type"]) == (406, "/problems/format-not-installed")
        assert "devicestat[arrow]" in answer.json()["detail"]
        second_choice = await api.get(f"/stats/{device}", headers={"accept": f"{media_type}, text/csv;q=0.5"})
        assert second_choice.headers["content-type"] == "text/csv; charset=utf-8"


def test_the_api_starts_without_pyarrow() -> None:
    script = "import sys, query_api.serve.app; print('pyarrow' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert ran.stdout == "False\n"
