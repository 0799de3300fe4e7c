"""Figures by intervals, compared with figures that are computed in Python."""

import math
import random
import statistics
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import httpx

from query_api.readings.buckets import AT_ONCE

CHANGE = datetime(2026, 3, 29, 1, tzinfo=UTC)  # in Berlin the clock goes from 2 to 3


async def store(api: httpx.AsyncClient, device: int, moments: list[datetime]) -> list[dict[str, Any]]:
    dice = random.Random(4)
    given = [
        {"device_id": device, "x": dice.uniform(-1000, 1000), "y": n % 5, "z": -n / 7, "timestamp": at.isoformat()}
        for n, at in enumerate(moments)
    ]
    assert (await api.post("/stats", json=given)).status_code == 201
    return given


async def walk(api: httpx.AsyncClient, address: str, params: dict[str, Any]) -> list[dict[str, Any]]:
    page = await api.get(address, params=params)
    found = list(page.json())
    while "next" in page.links:
        assert len(page.json()) == params.get("limit", 1000)
        page = await api.get(page.links["next"]["url"])
        assert page.status_code == 200
        found += page.json()
    return found


def figures(values: list[float]) -> dict[str, float]:
    return {
        "min": min(values),
        "max": max(values),
        "sum": math.fsum(values),
        "count": len(values),
        "median": statistics.median(values),
    }


def hour(local: datetime) -> datetime:
    return local.replace(minute=0, second=0, microsecond=0)


def day(local: datetime) -> datetime:
    return local.replace(hour=0, minute=0, second=0, microsecond=0, fold=0)


def week(local: datetime) -> datetime:
    return day(local) - timedelta(days=local.weekday())


def quarter(local: datetime) -> datetime:
    return day(local).replace(month=(local.month - 1) // 3 * 3 + 1, day=1)


async def test_each_interval_has_its_readings(api: httpx.AsyncClient, device: int) -> None:
    dice = random.Random(3)
    spread = [CHANGE + timedelta(seconds=dice.uniform(-90 * 86_400, 220 * 86_400)) for _ in range(150)]
    dense = [CHANGE + timedelta(minutes=20 * n, microseconds=n) for n in range(-75, 75)]
    given = await store(api, device, spread + dense)
    for name in ("Europe/Berlin", "America/Havana", "Asia/Kathmandu"):
        zone = ZoneInfo(name)
        for interval, begin in (("PT1H", hour), ("P1D", day), ("P1W", week), ("P3M", quarter)):
            expected: dict[datetime, list[dict[str, Any]]] = defaultdict(list)
            for reading in given:
                start = begin(datetime.fromisoformat(reading["timestamp"]).astimezone(zone)).astimezone(UTC)
                expected[start].append(reading)
            for limit in (20, 1000):
                found = await walk(
                    api, f"/stats/{device}/buckets", {"interval": interval, "timezone": name, "limit": limit}
                )
                starts = [datetime.fromisoformat(bucket["start"]) for bucket in found]
                assert starts == sorted(expected)
                assert {at.utcoffset() == at.astimezone(zone).utcoffset() for at in starts} == {True}
                for at, bucket in zip(starts, found, strict=True):
                    inside = expected[at]
                    for axis in "xyz":
                        assert bucket[axis] == figures([reading[axis] for reading in inside])


async def test_more_intervals_than_are_analysed_at_once(api: httpx.AsyncClient, device: int) -> None:
    count = 2 * AT_ONCE + 1
    given = await store(api, device, [CHANGE + timedelta(minutes=n) for n in range(count)])
    found = (await api.get(f"/stats/{device}/buckets", params={"interval": "PT1M"})).json()
    assert [datetime.fromisoformat(bucket["start"]) for bucket in found] == [
        CHANGE + timedelta(minutes=n) for n in range(count)
    ]
    assert [bucket["x"] for bucket in found] == [figures([reading["x"]]) for reading in given]


async def test_the_days_on_which_the_clocks_change(api: httpx.AsyncClient, device: int) -> None:
    """Days of 23 and 25 hours. In autumn the repeated hour is two intervals."""
    for month, day, hours, sixths in (
        (
            3,
            29,
            23,
            ["00:00:00.000000+01:00", "07:00:00.000000+02:00", "13:00:00.000000+02:00", "19:00:00.000000+02:00"],
        ),
        (
            10,
            25,
            25,
            [
                "00:00:00.000000+02:00",
                "05:00:00.000000+01:00",
                "11:00:00.000000+01:00",
                "17:00:00.000000+01:00",
                "23:00:00.000000+01:00",
            ],
        ),
    ):
        berlin = ZoneInfo("Europe/Berlin")
        midnight = datetime(2025 if month == 10 else 2026, month, 26 if month == 10 else day, tzinfo=berlin)
        first = midnight.astimezone(UTC)
        await store(api, device, [first + timedelta(minutes=10 * n) for n in range(6 * hours)])
        params = {
            "timezone": "Europe/Berlin",
            "start": first.isoformat(),
            "end": (first + timedelta(hours=hours) - timedelta(seconds=1)).isoformat(),
        }
        (whole,) = await walk(api, f"/stats/{device}/buckets", {**params, "interval": "P1D"})
        assert whole["x"]["count"] == 6 * hours
        length = datetime.fromisoformat(whole["end"]) - datetime.fromisoformat(whole["start"])
        assert length == timedelta(hours=hours)
        each = await walk(api, f"/stats/{device}/buckets", {**params, "interval": "PT1H"})
        assert [bucket["x"]["count"] for bucket in each] == [6] * hours
        parts = await walk(api, f"/stats/{device}/buckets", {**params, "interval": "PT6H"})
        assert [bucket["start"][11:] for bucket in parts] == sixths
        assert parts[-1]["end"] == whole["end"]


async def test_the_period_limits_the_readings_not_the_interval(api: httpx.AsyncClient, device: int) -> None:
    await store(api, device, [CHANGE + timedelta(hours=n) for n in range(24)])
    params = {"interval": "P1D", "start": "2026-03-29T03:00:00Z", "end": "2026-03-29T05:00:00Z"}
    (bucket,) = (await api.get(f"/stats/{device}/buckets", params=params)).json()
    assert (bucket["start"], bucket["end"]) == ("2026-03-29T00:00:00.000000Z", "2026-03-30T00:00:00.000000Z")
    period = {name: params[name] for name in ("start", "end")}
    analysis = (await api.get(f"/stats/analysis/{device}", params=period)).json()
    assert {axis: bucket[axis] for axis in "xyz"} == analysis
    assert bucket["x"]["count"] == 3


async def test_seconds_over_years_are_found_without_a_search_for_each(api: httpx.AsyncClient, device: int) -> None:
    """Three hundred million intervals, three of which have readings."""
    moments = [datetime(year, 2, 3, 4, 5, 6, 700_000, tzinfo=UTC) for year in (2017, 2020, 2026)]
    await store(api, device, moments)
    found = await walk(api, f"/stats/{device}/buckets", {"interval": "PT1S", "limit": 2})
    assert [bucket["start"] for bucket in found] == [f"{at.year}-02-03T04:05:06.000000Z" for at in moments]
    assert (await api.get(f"/stats/{device}/buckets?start=2018-01-01&end=2019-01-01")).json() == []


async def test_intervals_that_do_not_divide_a_day_restart_each_day(api: httpx.AsyncClient, device: int) -> None:
    await store(api, device, [CHANGE + timedelta(hours=n) for n in range(48)])
    found = await walk(api, f"/stats/{device}/buckets", {"interval": "PT7H"})
    assert [bucket["start"][8:13] for bucket in found[:5]] == ["29T00", "29T07", "29T14", "29T21", "30T00"]


async def test_refused_requests(api: httpx.AsyncClient, device: int) -> None:
    path = f"/stats/{device}/buckets"
    for params, status, named in (
        ({"interval": "1h"}, 422, ["interval"]), ({"interval": "PT0S"}, 422, ["interval"]),
        ({"interval": ""}, 422, ["interval"]), ({"timezone": "Europe/Berlinn"}, 422, ["timezone"]),
        ({"timezone": ""}, 422, ["timezone"]), ({"timezone": "../../etc/passwd"}, 422, ["timezone"]),
        ({"timezone": "a\0b"}, 422, ["timezone"]), ({"timezone": "Europe"}, 422, ["timezone"]),
        ({"timezone": "x" * 9999, "interval": "9" * 9999}, 422, ["timezone"]),
        ({"limit": "0"}, 422, ["limit"]),
        ({"start": "2026-01-02", "end": "2026-01-01"}, 400, ["start"]), ({"cursor": "AAAA"}, 400, ["cursor"]),
    ):  # fmt: skip
        answer = await api.get(path, params=params)
        assert answer.status_code == status, params
        assert [error["field"] for error in answer.json()["errors"]] == named
    (interval,) = (await api.get(path, params={"interval": "P1DT12H"})).json()["errors"]
    (zone,) = (await api.get(path, params={"timezone": "Berlin"})).json()["errors"]
    assert ["PT1H" in interval["detail"], "Europe/Berlin" in zone["detail"]] == [True, True]
    assert (await api.get(f"/stats/{device + 1}/buckets")).status_code == 404


async def test_a_cursor_is_valid_for_its_list_only(api: httpx.AsyncClient, device: int) -> None:
    await store(api, device, [CHANGE + timedelta(hours=n) for n in range(5)])
    path = f"/stats/{device}/buckets"
    cursor = (await api.get(f"{path}?limit=2")).headers["x-next-cursor"]
    assert len((await api.get(f"{path}?cursor={cursor}")).json()) == 3
    assert (await api.get(f"{path}?cursor={cursor}&end=2026-03-29T01:30:00Z")).json() == []
    for query in ("interval=P1D", "timezone=Europe/Berlin"):
        answer = await api.get(f"{path}?cursor={cursor}&{query}")
        assert (answer.status_code, answer.json()["type"]) == (400, "/problems/bad-cursor")
    assert (await api.get(f"/stats/{device}?cursor={cursor}")).status_code == 400
