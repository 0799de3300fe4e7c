"""A device's readings for a plot."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import psycopg
import pytest

from tests import locks
from tests.waiting import eventually

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)
FILL = """
    INSERT INTO readings (device_id, recorded_at, received_at, x, y, z)
    SELECT %(device)s, %(first)s + n * interval '1 second', now(), sin(n / 1000.0) * 100, n %% 1000, 7
    FROM generate_series(0, %(count)s - 1) AS n
"""


async def store(database: psycopg.AsyncConnection[Any], device: int, count: int) -> None:
    await database.execute(
        "SELECT ensure_readings_partition(%s + n * interval '25 days') FROM generate_series(0, 1) n", (NOON,)
    )
    await database.execute(FILL, {"device": device, "first": NOON, "count": count})
    await database.execute(
        "INSERT INTO readings (device_id, recorded_at, received_at, x, y, z) VALUES (%s, %s, now(), -999, 0, 7)",
        (device, NOON + timedelta(seconds=4711.5)),
    )


async def test_few_points_represent_all_readings(
    api: httpx.AsyncClient, device: int, database: psycopg.AsyncConnection[Any]
) -> None:
    await store(database, device, 150_000)  # more than two batches
    whole = (await api.get(f"/stats/analysis/{device}")).json()
    for points in (4, 5, 100, 1000):
        series = (await api.get(f"/stats/{device}/series?points={points}")).json()
        assert series["count"] == 150_001
        for axis in "xyz":
            times, values = series[axis]["timestamp"], series[axis]["value"]
            assert len(times) == len(values) <= points
            assert (min(values), max(values)) == (whole[axis]["min"], whole[axis]["max"])
            assert (times[0], times[-1]) == ("2026-01-31T12:00:00.000000Z", "2026-02-02T05:39:59.000000Z")
            assert times == sorted(set(times), key=datetime.fromisoformat)
    assert ("2026-01-31T13:18:31.500000Z", -999) in zip(series["x"]["timestamp"], series["x"]["value"], strict=True)
    assert len(series["y"]["value"]) >= 998
    assert len(series["z"]["value"]) >= 500


async def test_all_readings_are_returned_up_to_the_number_of_points(api: httpx.AsyncClient, device: int) -> None:
    path = f"/stats/{device}/series"
    nothing: dict[str, Any] = {"timestamp": [], "value": []}
    empty = (await api.get(path)).json()
    assert empty == {
        "device_id": device,
        "start": None,
        "end": None,
        "count": 0,
        "x": nothing,
        "y": nothing,
        "z": nothing,
    }
    given = [
        {"device_id": device, "x": n % 3, "y": -n, "z": 5, "timestamp": (NOON + timedelta(seconds=n // 2)).isoformat()}
        for n in range(20)
    ]
    await api.post("/stats", json=given[0])
    assert (await api.get(path)).json()["x"] == {"timestamp": ["2026-01-31T12:00:00.000000Z"], "value": [0.0]}
    await api.post("/stats", json=given)
    listed = (await api.get(f"/stats/{device}")).json()
    for points in (20, 1000):
        series = (await api.get(f"{path}?points={points}")).json()
        for axis in "xyz":
            assert series[axis] == {"timestamp": [r["timestamp"] for r in listed], "value": [r[axis] for r in listed]}
    fewer = (await api.get(f"{path}?points=19")).json()
    assert len(fewer["y"]["value"]) <= 19


async def test_one_column_of_times_and_the_gaps(
    api: httpx.AsyncClient, device: int, database: psycopg.AsyncConnection[Any]
) -> None:
    await store(database, device, 20_000)
    await database.execute(
        "DELETE FROM readings WHERE recorded_at > %s AND recorded_at < %s",
        (NOON + timedelta(seconds=600), NOON + timedelta(seconds=900)),
    )
    separate = (await api.get(f"/stats/{device}/series?points=100")).json()
    shared = (await api.get(f"/stats/{device}/series?points=100&columns=shared")).json()
    assert shared["gaps"] == [{"start": "2026-01-31T12:10:00.000000Z", "end": "2026-01-31T12:15:00.000000Z"}]
    assert shared["gaps_above"] == 99.995001  # 19,999 seconds in 200 spans
    assert shared["timestamp"] == sorted(set(shared["timestamp"]))
    for axis in "xyz":
        rows = zip(shared["timestamp"], shared[axis], strict=True)
        points = [(at, value) for at, value in rows if value is not None]
        assert points == list(zip(separate[axis]["timestamp"], separate[axis]["value"], strict=True))
    finer = (await api.get(f"/stats/{device}/series?points=10000&columns=shared")).json()
    assert (finer["gaps"], finer["gaps_above"]) == (shared["gaps"], 5)
    assert separate["count"] == shared["count"]


async def test_shared_columns_of_few_readings(api: httpx.AsyncClient, device: int) -> None:
    path = f"/stats/{device}/series?columns=shared"
    nothing = {"device_id": device, "start": None, "end": None, "count": 0}
    empty: dict[str, Any] = {"timestamp": [], "x": [], "y": [], "z": [], "gaps": [], "gaps_above": None}
    assert (await api.get(path)).json() == nothing | empty
    at = [(NOON + timedelta(seconds=n)).isoformat() for n in (0, 0, 1, 2, 3, 4, 100)]
    await api.post(
        "/stats", json=[{"device_id": device, "x": n, "y": -n, "z": 7, "timestamp": at[n]} for n in range(7)]
    )
    found = (await api.get(path)).json()
    assert found["x"] == [0, 1, 2, 3, 4, 5, 6]  # two readings of one time are two rows
    assert found["y"] == [0, -1, -2, -3, -4, -5, -6]
    assert found["gaps"] == [{"start": "2026-01-31T12:00:04.000000Z", "end": "2026-01-31T12:01:40.000000Z"}]
    assert found["gaps_above"] == 5
    refused = await api.get(f"{path[:-6]}both")
    assert (refused.status_code, refused.json()["errors"][0]["field"]) == (422, "columns")


async def test_one_axis_of_several_devices(
    api: httpx.AsyncClient, device: int, database: psycopg.AsyncConnection[Any]
) -> None:
    others = [(await api.post("/devices", json={"name": "other"})).json()["id"] for _ in range(2)]
    await store(database, device, 5_000)
    await store(database, others[0], 10)
    order = [others[1], device, others[0]]
    asked: dict[str, Any] = {"device_id": order, "points": 30, "start": "2026-01-31T12:00:00Z"}
    for axis in "xyz":
        lines = (await api.get("/stats/series", params={**asked, "axis": axis})).json()
        assert [line["device_id"] for line in lines] == order
        for line in lines:
            series = (await api.get(f"/stats/{line['device_id']}/series", params=asked | {"device_id": []})).json()
            assert line == {"device_id": line["device_id"], "count": series["count"], **series[axis]}
    assert (await api.get("/stats/series", params={"device_id": device})).json()[0]["count"] == 5_001


async def test_refused_requests_for_several_devices(api: httpx.AsyncClient, device: int) -> None:
    many = "&".join(f"device_id={n}" for n in range(101))
    for query, field in (
        ("", "device_id"), (many, "device_id"), ("device_id=x", "device_id"), (f"device_id={device}&axis=w", "axis"),
        (f"device_id={device}&points=1001", "points"), (f"device_id={device}&points=3", "points"),
        (f"device_id={device}&columns=shared", "columns"),
    ):  # fmt: skip
        answer = await api.get(f"/stats/series?{query}")
        assert (answer.status_code, [error["field"] for error in answer.json()["errors"]]) == (422, [field]), query
    for unknown in (device + 1, 2**63, -1):
        answer = await api.get(f"/stats/series?device_id={device}&device_id={unknown}")
        assert (answer.status_code, answer.json()["type"]) == (404, "/problems/not-found")
        assert str(unknown) in answer.json()["detail"]


async def test_the_period_is_respected(
    api: httpx.AsyncClient, device: int, database: psycopg.AsyncConnection[Any]
) -> None:
    await store(database, device, 1000)
    period = {"start": "2026-01-31T12:01:00.000000Z", "end": "2026-01-31T12:02:00.000000Z"}
    series = (await api.get(f"/stats/{device}/series", params={**period, "points": 10})).json()
    assert {name: series[name] for name in period} == period
    assert series["count"] == 61
    assert (series["y"]["timestamp"][0], series["y"]["timestamp"][-1]) == tuple(period.values())
    assert (await api.get(f"/stats/{device}/series?start=2027-01-01")).json()["count"] == 0


async def test_readings_of_one_moment(api: httpx.AsyncClient, device: int) -> None:
    """More readings than points: the library that chooses points panics at equal times."""
    given = [{"device_id": device, "x": n, "y": 1, "z": 0, "timestamp": NOON.isoformat()} for n in range(100)]
    await api.post("/stats", json=given)
    series = (await api.get(f"/stats/{device}/series?points=10")).json()
    assert series["count"] == 100
    assert series["x"]["value"] == [0, 99]


async def test_refused_requests(api: httpx.AsyncClient, device: int) -> None:
    for query, status, named in (
        ("points=3", 422, "points"), ("points=10001", 422, "points"), ("points=x", 422, "points"),
        ("points=100000000000000000000", 422, "points"), ("start=x", 422, "start"),
        ("start=2026-01-02&end=2026-01-01", 400, "start"),
    ):  # fmt: skip
        answer = await api.get(f"/stats/{device}/series?{query}")
        assert (answer.status_code, [error["field"] for error in answer.json()["errors"]]) == (status, [named]), query
    assert (await api.get(f"/stats/{device + 1}/series")).status_code == 404


async def test_the_latest_reading(api: httpx.AsyncClient, device: int) -> None:
    path = f"/stats/{device}/latest"
    none, unknown = await api.get(path), await api.get(f"/stats/{device + 1}/latest")
    assert (none.status_code, none.json()["type"]) == (404, "/problems/no-readings")
    assert (unknown.status_code, unknown.json()["type"]) == (404, "/problems/not-found")
    for days in (3, 60, 10):  # the latest is what was measured last, not what came last
        at = (NOON + timedelta(days=days)).isoformat()
        await api.post("/stats", json={"device_id": device, "x": days, "y": 0, "z": 0, "timestamp": at})
    latest = (await api.get(path)).json()
    assert latest == (await api.get(f"/stats/{device}?order=desc&limit=1")).json()[0]
    assert latest["x"] == 60


@pytest.mark.parametrize("path", ["series", "buckets"])
async def test_a_disconnect_cancels_the_query(
    api: httpx.AsyncClient, device: int, database: psycopg.AsyncConnection[Any], path: str
) -> None:
    async with database.transaction():
        await database.execute("LOCK TABLE readings IN ACCESS EXCLUSIVE MODE")
        request = asyncio.create_task(api.get(f"/stats/{device}/{path}"))
        await eventually(lambda: locks.waiting(database, "readings"), lambda seen: len(seen) == 1)
        request.cancel()
        await eventually(lambda: locks.waiting(database, "readings"), lambda seen: not seen)
    assert (await api.get(f"/stats/{device}/{path}")).status_code == 200
