"""Analyses, immediate and queued, end to end: over HTTP, with a running worker."""

import math
import random
import statistics
import urllib.parse
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import psycopg

from query_api.devices import handlers as devices
from query_api.devices import search
from query_api.queue import results as analysis_results
from shared.settings import Settings
from tests import services
from tests.waiting import eventually

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)
AXES = ("x", "y", "z")
NO_READINGS = {"min": None, "max": None, "sum": 0.0, "count": 0, "median": None}


def at(seconds: float) -> str:
    return (NOON + timedelta(seconds=seconds)).isoformat(timespec="microseconds").replace("+00:00", "Z")


async def store(api: httpx.AsyncClient, device: int, rows: list[tuple[float, float, float]]) -> None:
    """Store the rows, one per second from noon."""
    readings = [
        {"device_id": device, "x": x, "y": y, "z": z, "timestamp": at(second)} for second, (x, y, z) in enumerate(rows)
    ]
    assert (await api.post("/stats", json=readings)).status_code == 201


async def queue(api: httpx.AsyncClient, device: int, **period: str) -> dict[str, Any]:
    answer = await api.post(f"/stats/analysis/{device}/async", params=period)
    assert answer.status_code == 202
    queued: dict[str, Any] = answer.json()
    assert answer.headers["location"] == f"/stats/analysis/requests/{queued['id']}"
    return queued


async def ended(api: httpx.AsyncClient, request: dict[str, Any]) -> dict[str, Any]:
    async def look() -> dict[str, Any]:
        seen: dict[str, Any] = (await api.get(f"/stats/analysis/requests/{request['id']}")).json()
        return seen

    return await eventually(look, lambda seen: seen["status"] not in ("queued", "running"))


def random_rows(count: int) -> list[tuple[float, float, float]]:
    """Return an axis of noise, one whose sum nearly cancels, and one of few and very small values."""
    dice = random.Random(count)
    return [
        (
            dice.uniform(-1000, 1000),
            dice.choice((-1, 1)) * (999 + dice.random()),
            dice.choice((0.0, 1e-9, 0.1, -0.3)),
        )
        for _ in range(count)
    ]


def assert_exact(figures: dict[str, Any], values: list[float]) -> None:
    assert figures["count"] == len(values)
    assert figures["min"] == min(values)
    assert figures["max"] == max(values)
    assert figures["median"] == statistics.median(values)
    assert math.isclose(figures["sum"], math.fsum(values), rel_tol=1e-12)


async def test_the_figures_of_ten_thousand_readings_immediate_and_queued(
    api: httpx.AsyncClient, device: int, api_settings: Settings
) -> None:
    rows = random_rows(10_000)
    await store(api, device, rows)
    now = (await api.get(f"/stats/analysis/{device}")).json()
    for axis, values in zip(AXES, zip(*rows, strict=True), strict=True):
        assert_exact(now[axis], list(values))

    async with services.worker(api_settings):
        request = await ended(api, await queue(api, device))
    assert (request["status"], request["attempts"], request["last_error"]) == ("done", 1, None)
    results = (await api.get(f"/stats/analysis/result/{device}")).json()
    assert [{axis: result[axis] for axis in AXES} for result in results] == [now]
    assert results[0]["request_id"] == request["id"]
    assert (results[0]["device_id"], results[0]["start"], results[0]["end"]) == (device, None, None)


async def test_odd_and_even_counts(api: httpx.AsyncClient, device: int) -> None:
    """For the even count, interpolation would round differently from the mean of the two middle values."""
    rows = [(-1e-300, 1.0, 0.1), (3e-300, 2.0, 0.3), (1e-300, 4.0, 0.2)]
    await store(api, device, rows)
    for last in (0, 1, 2):
        figures = (await api.get(f"/stats/analysis/{device}", params={"end": at(last)})).json()
        for position, axis in enumerate(AXES):
            assert_exact(figures[axis], [row[position] for row in rows[: last + 1]])


async def test_without_readings(api: httpx.AsyncClient, device: int) -> None:
    assert (await api.get(f"/stats/analysis/{device}")).json() == dict.fromkeys(AXES, NO_READINGS)
    await store(api, device, [(1, 2, 3)])
    later = await api.get(f"/stats/analysis/{device}", params={"start": at(1)})
    assert later.json() == dict.fromkeys(AXES, NO_READINGS)


async def test_both_ends_of_the_period_are_included(api: httpx.AsyncClient, device: int) -> None:
    await store(api, device, [(second, 0, 0) for second in range(6)])

    async def figures(**period: str) -> list[float]:
        x = (await api.get(f"/stats/analysis/{device}", params=period)).json()["x"]
        return [x["min"], x["max"], x["count"]]

    assert await figures() == [0, 5, 6]
    assert await figures(start=at(2), end=at(4)) == [2, 4, 3]
    assert await figures(start=at(2)) == [2, 5, 4]
    assert await figures(end=at(2)) == [0, 2, 3]
    assert await figures(start=at(2), end=at(2)) == [2, 2, 1]


async def test_the_queued_period_is_stored_unchanged(
    api: httpx.AsyncClient, device: int, api_settings: Settings
) -> None:
    await store(api, device, [(second, 0, 0) for second in range(6)])
    periods: list[dict[str, str]] = [{}, {"start": at(2)}, {"end": at(2)}, {"start": at(2), "end": at(2)}]
    requests = [await queue(api, device, **period) for period in periods]
    assert [(r["start"], r["end"]) for r in requests] == [(p.get("start"), p.get("end")) for p in periods]
    async with services.worker(api_settings):
        assert {(await ended(api, request))["status"] for request in requests} == {"done"}
    for result in (await api.get(f"/stats/analysis/result/{device}")).json():
        bounds = {bound: result[bound] for bound in ("start", "end") if result[bound]}
        now = await api.get(f"/stats/analysis/{device}", params=bounds)
        assert {axis: result[axis] for axis in AXES} == now.json()


async def test_results_are_listed_newest_first_in_pages(
    api: httpx.AsyncClient, device: int, api_settings: Settings
) -> None:
    requests = [await queue(api, device, start=at(number)) for number in range(5)]
    async with services.worker(api_settings):
        for request in requests:
            await ended(api, request)
    everything = (await api.get(f"/stats/analysis/result/{device}")).json()
    assert [r["id"] for r in everything] == sorted((r["id"] for r in everything), reverse=True)
    assert {r["request_id"] for r in everything} == {r["id"] for r in requests}

    first = await api.get(f"/stats/analysis/result/{device}?limit=3")
    second = await api.get(first.links["next"]["url"])
    assert first.json() + second.json() == everything
    assert "next" not in second.links


async def test_cancelling_a_queued_analysis(api: httpx.AsyncClient, device: int, api_settings: Settings) -> None:
    request = await queue(api, device)
    cancelled = await api.delete(f"/stats/analysis/requests/{request['id']}")
    assert (cancelled.status_code, cancelled.json()["status"]) == (200, "cancelled")
    assert cancelled.json()["finished_at"] is not None
    again = await api.delete(f"/stats/analysis/requests/{request['id']}")
    assert (again.status_code, again.json()["type"]) == (409, "/problems/already-ended")

    async with services.worker(api_settings):
        done = await ended(api, await queue(api, device))
    results = (await api.get(f"/stats/analysis/result/{device}")).json()
    assert [result["request_id"] for result in results] == [done["id"]]
    after_the_end = await api.delete(f"/stats/analysis/requests/{done['id']}")
    assert after_the_end.status_code == 409


async def test_refused_requests(api: httpx.AsyncClient, device: int) -> None:
    backwards = urllib.parse.urlencode({"start": at(1), "end": at(0)})
    cases = [
        ("GET", f"/stats/analysis/{device}?{backwards}", 400),
        ("POST", f"/stats/analysis/{device}/async?{backwards}", 400),
        ("GET", f"/stats/analysis/{device}?start=now", 422),
        ("GET", "/stats/analysis/x", 422),
        ("GET", "/stats/analysis/requests/x", 422),
    ]
    cases += [
        (method, f"{path}{suffix}", 404)
        for suffix, path, method in (
            ("", "/stats/analysis/{}", "GET"),
            ("", "/stats/analysis/{}/async", "POST"),
            ("", "/stats/analysis/result/{}", "GET"),
            ("", "/stats/analysis/requests/{}", "GET"),
            ("", "/stats/analysis/requests/{}", "DELETE"),
            ("", "/stats/{}", "GET"),
        )
    ]
    for method, path, status in cases:
        for number in (0, -1, 999, 2**63) if "{}" in path else (device,):
            answer = await api.request(method, path.format(number))
            assert answer.status_code == status, (method, path, number)
            assert answer.headers["content-type"] == "application/problem+json"


MANY_ROWS = """
    WITH owners AS (
        INSERT INTO devices (key, name) SELECT 'k' || n, 'n' FROM generate_series(1, 1000) n RETURNING id
    ), asked AS (
        INSERT INTO analysis_requests (device_id, period, status, finished_at)
        SELECT id, '[,]', 'done', now() FROM owners, generate_series(1, 10) RETURNING id, device_id
    )
    INSERT INTO analysis_results (request_id, device_id, x, y, z) SELECT id, device_id, '{}', '{}', '{}' FROM asked
"""


async def test_reads_use_their_indexes(
    api: httpx.AsyncClient, device: int, database: psycopg.AsyncConnection[Any]
) -> None:
    await database.execute(MANY_ROWS)
    await database.execute("ANALYZE")
    for statement, parameters, index in (
        (analysis_results._SELECT, {"device_id": device, "before": 2**62, "limit": 11}, "analysis_results_by_device"),
        (devices._FIND, {"id": 7}, "devices_pkey"),
        (search._ALL, {"after": 7, "limit": 11}, "devices_pkey"),
    ):
        rows = await (await database.execute(b"EXPLAIN " + statement.encode(), parameters)).fetchall()
        assert any(index in row[0] for row in rows), rows
