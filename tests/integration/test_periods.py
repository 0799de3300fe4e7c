"""Dates, time zones and numbers as bounds of a period, on every route that has one."""

import re

import httpx

NIGHTS = ["2026-01-30T22:59:59Z", "2026-01-30T23:00:00Z", "2026-01-31T22:59:59.999999Z", "2026-01-31T23:00:00Z"]
"""In Berlin the second and the third of them are on 31 January."""


async def store(api: httpx.AsyncClient, device: int) -> None:
    given = [{"device_id": device, "x": n, "y": 0, "z": 0, "timestamp": at} for n, at in enumerate(NIGHTS)]
    assert (await api.post("/stats", json=given)).status_code == 201


async def test_a_date_includes_its_day_in_the_timezone(api: httpx.AsyncClient, device: int) -> None:
    await store(api, device)
    for zone, seen in (("Europe/Berlin", [1, 2]), ("UTC", [2, 3]), (None, [2, 3]), ("Asia/Tokyo", [0, 1])):
        params = {"start": "2026-01-31", "end": "2026-01-31", **({} if zone is None else {"timezone": zone})}
        listed = (await api.get(f"/stats/{device}", params=params)).json()
        assert [reading["x"] for reading in listed] == seen
        streamed = await api.get(f"/stats/{device}", params=params, headers={"Accept": "application/x-ndjson"})
        assert len(streamed.text.splitlines()) == len(seen)
        assert (await api.get(f"/stats/{device}/series", params=params)).json()["count"] == len(seen)
        for path in (f"/stats/analysis/{device}", f"/stats/analysis?device_id={device}"):
            answer = await api.get(path, params=httpx.QueryParams(httpx.URL(path).params).merge(params))
            assert answer.json()["x"]["count"] == len(seen), path
        buckets = (await api.get(f"/stats/{device}/buckets", params={**params, "interval": "P1D"})).json()
        assert sum(bucket["x"]["count"] for bucket in buckets) == len(seen)


async def test_a_queued_analysis_has_the_requested_period(api: httpx.AsyncClient, device: int) -> None:
    params = {"start": "2026-01-31", "end": "2026-01-31", "timezone": "Europe/Berlin"}
    queued = (await api.post(f"/stats/analysis/{device}/async", params=params)).json()
    assert queued["start"] == "2026-01-30T23:00:00.000000Z"
    assert queued["end"] == "2026-01-31T22:59:59.999999Z"


async def test_an_implausible_number_is_refused(api: httpx.AsyncClient, device: int) -> None:
    paths = [f"/stats/{device}", f"/stats/{device}/series", f"/stats/{device}/buckets", f"/stats/analysis/{device}"]
    for path in [*paths, f"/stats/{device}/histogram", "/stats/analysis"]:
        for name in ("start", "end"):
            answer = await api.get(path, params={name: "20261024"})
            assert answer.status_code == 422, path
            assert "write 2026-10-24" in answer.json()["detail"]
    answer = await api.post(f"/stats/analysis/{device}/async?start=20261024")
    assert answer.status_code == 422
    assert (await api.get(f"/stats/{device}?start=1769860800")).status_code == 200


async def test_times_and_numbers_have_one_form(api: httpx.AsyncClient, device: int) -> None:
    values = [(1, "2026-01-31T12:00:00Z"), (1e-7, "2026-01-31T12:00:00.5Z"), (-2.5, "2026-01-31T12:00:01Z")]
    given = [{"device_id": device, "x": x, "y": -0.0, "z": 1000, "timestamp": at} for x, at in values]
    stored = (await api.post("/stats", json=given)).text
    listed = (await api.get(f"/stats/{device}")).text
    csv, ndjson = [
        (await api.get(f"/stats/{device}", headers={"Accept": kind})).text
        for kind in ("text/csv", "application/x-ndjson")
    ]
    for text in (stored, listed, csv, ndjson):
        assert len(re.findall(r"T\d\d:\d\d:\d\d\.\d{6}Z", text)) == 3
        assert "1000.0" in text
    assert [line.split(",")[2:5] for line in csv.splitlines()[1:]] == [
        ["1.0", "-0.0", "1000.0"], ["1.0e-07", "-0.0", "1000.0"], ["-2.5", "-0.0", "1000.0"],
    ]  # fmt: skip
    assert f"[{','.join(ndjson.splitlines())}]" == listed.replace("1e-7", "1.0e-07")
