"""`figures`, and analyses of several devices, over HTTP."""

import statistics
from typing import Any

import httpx
import numpy as np
import pytest

from shared.settings import Settings
from tests import services
from tests.integration.test_analysis import AXES, NO_READINGS, assert_exact, at, ended, queue, random_rows, store

FIVE = {"min", "max", "sum", "count", "median"}


async def get(api: httpx.AsyncClient, path: str, **query: Any) -> Any:
    answer = await api.get(path, params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def refused(api: httpx.AsyncClient, path: str, status: int) -> dict[str, Any]:
    answer = await api.get(path)
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json"), answer.text
    details: dict[str, Any] = answer.json()
    return details


async def add_device(api: httpx.AsyncClient, rows: list[tuple[float, float, float]]) -> int:
    device: int = (await api.post("/devices", json={"name": "n"})).json()["id"]
    if rows:
        await store(api, device, rows)
    return device


async def test_only_requested_figures_are_added(api: httpx.AsyncClient, device: int) -> None:
    rows = random_rows(500)
    await store(api, device, rows)
    path = f"/stats/analysis/{device}"
    for query, added in (
        ({}, set()),
        ({"figures": "mean"}, {"mean"}),
        ({"figures": "stddev, mean"}, {"mean", "stddev"}),
        ({"figures": "p95"}, {"percentiles"}),
        ({"figures": ["mean", "p99.9,p5", "p5.0", "stddev"]}, {"mean", "stddev", "percentiles"}),
    ):
        found = await get(api, path, **query)
        assert [set(found[axis]) for axis in AXES] == [FIVE | added] * 3
    for axis, values in zip(AXES, zip(*rows, strict=True), strict=True):
        figures = found[axis]
        assert_exact(figures, list(values))
        assert figures["mean"] == pytest.approx(statistics.fmean(values), rel=1e-12)
        assert figures["stddev"] == pytest.approx(statistics.stdev(values), rel=1e-12)
        expected = {"p5": np.percentile(values, 5), "p99.9": np.percentile(values, 99.9)}
        assert list(figures["percentiles"]) == list(expected)
        assert figures["percentiles"] == pytest.approx(expected, rel=1e-12)


async def test_figures_without_readings_are_null(api: httpx.AsyncClient, device: int) -> None:
    path, query = f"/stats/analysis/{device}", {"figures": "mean,stddev,mad,first,last,p50"}
    nothing = dict.fromkeys(("mean", "stddev", "mad", "first", "last"))
    none = {**NO_READINGS, **nothing, "percentiles": {"p50": None}}
    assert await get(api, path, **query) == dict.fromkeys(AXES, none)
    await store(api, device, [(1, 2, 3)])
    assert (await get(api, path, **query))["y"] == {
        "min": 2.0, "max": 2.0, "sum": 2.0, "count": 1, "median": 2.0,
        "mean": 2.0, "stddev": None, "mad": 0.0, "first": end(0, 2.0), "last": end(0, 2.0), "percentiles": {"p50": 2.0},
    }  # fmt: skip


def end(second: float, value: float) -> dict[str, Any]:
    return {"timestamp": at(second), "value": value}


async def test_the_deviation_and_the_ends_of_a_period(
    api: httpx.AsyncClient, device: int, api_settings: Settings
) -> None:
    """Immediate, of several devices together and each, and queued."""
    names = {"figures": "mad,last,first"}
    rows = [(5.0, 1.0, 0.25), (1.0, -0.0, 0.5), (2.0, -4.0, 0.0), (9.0, 3.0, -0.0)]
    await store(api, device, rows)
    other = await add_device(api, [(7.0, 2.0, 1.0), (0.0, 0.0, 0.0)])
    for path, query in ((f"/stats/analysis/{device}", {}), ("/stats/analysis", {"device_id": device})):
        found = await get(api, path, **query, **names)
        for number, (axis, mad) in enumerate(zip(AXES, (2.0, 1.5, 0.125), strict=True)):
            assert found[axis]["mad"] == mad
            assert (found[axis]["first"], found[axis]["last"]) == (end(0, rows[0][number]), end(3, rows[3][number]))
    part = await get(api, f"/stats/analysis/{device}", **names, start=at(0.5), end=at(2.5))
    assert (part["x"]["mad"], part["x"]["first"], part["x"]["last"]) == (0.5, end(1, 1.0), end(2, 2.0))

    together = await get(api, "/stats/analysis", device_id=[other, device], **names)
    assert (together["y"]["first"], together["y"]["last"]) == (end(0, 1.0), end(3, 3.0)), "of equal times, x decides"
    assert together["x"]["mad"] == statistics.median(abs(x - 3.5) for x in (5, 1, 2, 9, 7, 0))
    each = await get(api, "/stats/analysis", device_id=[other, device], group_by="device", **names)
    assert each[0]["x"]["last"] == end(1, 0.0)
    assert {axis: each[1][axis] for axis in AXES} == found

    request = await queue(api, device, **names)
    assert request["figures"] == ["mad", "first", "last"]
    async with services.worker(api_settings):
        result = (await ended(api, request))["result"]
    assert {axis: result[axis] for axis in AXES} == found
    (listed,) = await get(api, f"/stats/analysis/result/{device}")
    assert {axis: listed[axis] for axis in AXES} == found


async def test_unknown_figures_are_refused(api: httpx.AsyncClient, device: int) -> None:
    for path in (f"/stats/analysis/{device}?", f"/stats/analysis?device_id={device}&"):
        for name, said in (("avg", "'avg'"), ("p101", "'p101'"), ("", "''"), ("mean,,p5", "''"), ("p%00", r"'p\x00'")):
            details = await refused(api, f"{path}figures={name}", 422)
            (error,) = details["errors"]
            assert error["field"] == "figures"
            assert error["detail"] == (
                "expected mean, stddev, variance, range, iqr, mad, first, last or a percentile from p0 to p100 with up "
                f"to 6 decimals, such as p95 or p99.9, got {said}; min, max, sum, count and median are always present"
            )
        details = await refused(api, f"{path}figures=avg,mean,sigma", 422)
        assert len(details["errors"]) == 2
        assert "got 21" in (await refused(api, f"{path}figures={',mean' * 20}", 422))["detail"]
        assert (await api.get(f"{path}figures={','.join(f'p{rank}' for rank in range(20))}")).status_code == 200


async def test_several_devices_together_and_each(api: httpx.AsyncClient) -> None:
    parts = [random_rows(count) for count in (10, 301, 0, 40)]
    devices = [await add_device(api, rows) for rows in parts]
    asked = [devices[position] for position in (3, 0, 2, 1)]
    together = await get(api, "/stats/analysis", device_id=asked, figures="p90")
    for axis, values in zip(AXES, zip(*(row for rows in parts for row in rows), strict=True), strict=True):
        assert_exact(together[axis], list(values))
        assert together[axis]["percentiles"]["p90"] == pytest.approx(np.percentile(values, 90), rel=1e-12)

    each = await get(api, "/stats/analysis/", device_id=[*asked, *asked], group_by="device", figures="p90")
    assert [found.pop("device_id") for found in each] == asked
    for device, found in zip(asked, each, strict=True):
        assert found == await get(api, f"/stats/analysis/{device}", figures="p90")


async def test_several_devices_over_a_period_with_both_ends(api: httpx.AsyncClient) -> None:
    devices = [await add_device(api, [(second, 0, 0) for second in range(first, 6)]) for first in (0, 3)]
    period = {"device_id": devices, "start": at(1), "end": at(2)}
    together = (await get(api, "/stats/analysis", **period))["x"]
    assert (together["min"], together["max"], together["count"]) == (1, 5, 4)
    each = await get(api, "/stats/analysis", **period, group_by="device")
    assert [(found["x"]["min"], found["x"]["max"], found["x"]["count"]) for found in each] == [(1, 2, 2), (4, 5, 2)]


async def test_the_figures_of_one_of_several_devices_equal_its_own(api: httpx.AsyncClient, device: int) -> None:
    alone = await get(api, f"/stats/analysis/{device}")
    assert alone == await get(api, "/stats/analysis", device_id=device) == dict.fromkeys(AXES, NO_READINGS)
    each = await get(api, "/stats/analysis", device_id=device, group_by="device")
    assert each == [{"device_id": device, **alone}]


async def test_devices_that_cannot_be_analysed(api: httpx.AsyncClient, device: int) -> None:
    path = "/stats/analysis"
    missing = await refused(api, path, 422)
    assert missing["detail"] == (
        "device_id: is missing: expected 1 to 1,000 device ids, one per parameter, such as device_id=1&device_id=2"
    )
    for query, detail in (
        ("device_id=", "expected a whole number, got ''"),
        (f"device_id={device},2", f"expected a whole number, got '{device},2'"),
        (f"device_id={device}&device_id=1.5", "expected a whole number, got '1.5'"),
        ("device_id=%00", r"expected a whole number, got '\x00'"),
        ("&".join(f"device_id={n}" for n in range(1001)), "such as device_id=1&device_id=2, got 1,001"),
    ):
        assert (await refused(api, f"{path}?{query}", 422))["errors"][0]["detail"].endswith(detail)
    for group in ("axis", "null", ""):
        details = await refused(api, f"{path}?device_id={device}&group_by={group}", 422)
        assert details["detail"] == f"group_by: expected device, got '{group}'"
    for grouped in ("", "&group_by=device"):
        for numbers in (["98", "99"], ["0"], ["-1"], [str(2**63)], ["9" * 400]):
            query = "&".join(f"device_id={number}" for number in (device, *numbers))
            details = await refused(api, f"{path}?{query}{grouped}", 404)
            assert details["detail"] == f"there is no device {', '.join(numbers)}: GET /devices lists them"
    backwards = {"device_id": device, "start": at(1), "end": at(0)}
    assert (await api.get(path, params=backwards)).status_code == 400


async def test_a_thousand_devices(api: httpx.AsyncClient) -> None:
    answer = await api.post("/devices", json=[{"name": "n"}] * 1_000)
    devices = [registered["id"] for registered in answer.json()]
    rows = {0: [(1, 2, 3)], 500: [(5, -0.0, 1), (7, 0, 1)], 999: [(9, 2, 3)]}
    for place, own in rows.items():
        await store(api, devices[place], own)
    together = await get(api, "/stats/analysis", device_id=devices)
    assert together["x"] == {"min": 1, "max": 9, "sum": 22, "count": 4, "median": 6}
    each = await get(api, "/stats/analysis", device_id=devices[::-1], group_by="device")
    assert [found["device_id"] for found in each] == devices[::-1]
    assert [found["x"]["count"] for found in each[::-1]] == [len(rows.get(place, [])) for place in range(1_000)]
    unknown = await api.get("/stats/analysis", params={"device_id": [*devices[1:], 2**40]})
    assert unknown.status_code == 404
