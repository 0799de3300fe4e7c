"""Readings: storing over HTTP, and reading in pages and as streams."""

import asyncio
import csv
import io
import json
import time
from collections.abc import Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import psycopg
import pytest

from query_api.calendar.period import Period
from query_api.readings.listing import PAGES, _ReadingsAfter, page_parameters
from query_api.serve.tuning import Tuning
from query_api.web.limits.turns import Bounds
from shared.readings.announcements import Announcements
from shared.readings.model import Reading, to_microseconds
from shared.readings.partitions import Partitions
from shared.readings.store import prepare, store
from shared.settings import Settings
from tests import locks, services
from tests.explained import below
from tests.waiting import eventually

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)


def reading(device: int, timestamp: object = None, x: float = 1.0, y: float = 2.0, z: float = 3.0) -> dict[str, Any]:
    body = {"device_id": device, "x": x, "y": y, "z": z}
    return body if timestamp is None else {**body, "timestamp": timestamp}


def at(seconds: float) -> str:
    return (NOON + timedelta(seconds=seconds)).isoformat()


def fields(answer: httpx.Response) -> list[str]:
    return [error["field"] for error in answer.json()["errors"]]


# Storing.


async def test_a_stored_reading_is_returned(api: httpx.AsyncClient, device: int) -> None:
    before = datetime.now(UTC)
    answer = await api.post("/stats", json=reading(device, x=1.5, y=-2, z=3e2))
    stored = answer.json()
    assert answer.status_code == 201
    assert {name: stored[name] for name in ("device_id", "x", "y", "z")} == reading(device, x=1.5, y=-2, z=300)
    assert before <= datetime.fromisoformat(stored["timestamp"]) <= datetime.now(UTC)
    assert (await api.get(f"/stats/{device}")).json() == [stored]


async def test_the_response_to_an_array_has_its_order(api: httpx.AsyncClient, device: int) -> None:
    given = [reading(device, at(seconds), x=seconds) for seconds in (3, 1, 2)]
    answer = await api.post("/stats", json=given)
    assert answer.status_code == 201
    assert [stored["x"] for stored in answer.json()] == [3, 1, 2]
    found = (await api.get(f"/stats/{device}")).json()
    assert found == sorted(answer.json(), key=lambda stored: stored["timestamp"])


async def test_equal_readings_without_times_are_distinct(api: httpx.AsyncClient, device: int) -> None:
    answers = await asyncio.gather(*(api.post("/stats", json=[reading(device)] * 50) for _ in range(4)))
    assert {answer.status_code for answer in answers} == {201}
    assert (await api.get(f"/stats/analysis/{device}")).json()["x"]["count"] == 200
    for answer in answers:
        times = [stored["timestamp"] for stored in answer.json()]
        assert times == sorted(set(times))


async def test_a_reading_that_was_stored_before_keeps_its_id(api: httpx.AsyncClient, device: int) -> None:
    first = await api.post("/stats", json=reading(device, at(0)))
    again = await api.post("/stats", json=reading(device, at(0)))
    both = await api.post("/stats", json=[reading(device, at(0)), reading(device, at(1))])
    twice = await api.post("/stats", json=[reading(device, at(2))] * 2)
    assert [answer.status_code for answer in (first, again, both, twice)] == [201, 200, 201, 201]
    assert again.json() == first.json() == both.json()[0]
    assert twice.json()[0] == twice.json()[1]
    assert len((await api.get(f"/stats/{device}")).json()) == 3


async def test_different_readings_with_equal_times_are_both_stored(api: httpx.AsyncClient, device: int) -> None:
    answer = await api.post("/stats", json=[reading(device, at(0), x=1), reading(device, at(0), x=2)])
    assert answer.status_code == 201
    assert len({stored["id"] for stored in answer.json()}) == 2


async def test_ten_thousand_readings_in_one_request(api: httpx.AsyncClient, device: int) -> None:
    given = [reading(device, at(seconds / 7)) for seconds in range(10_000)]
    answer = await api.post("/stats", json=given)
    assert (answer.status_code, len(answer.json())) == (201, 10_000)
    more = await api.post("/stats", json=[*given, reading(device)])
    assert (more.status_code, fields(more)) == (422, ["body"])
    none = await api.post("/stats", json=[])
    assert (none.status_code, fields(none)) == (422, ["body"])


SAME_MOMENT = [
    "2026-01-31T12:00:00.25Z",
    "2026-01-31T12:00:00.250000",
    "2026-01-31t12:00:00.25z",
    "2026-01-31 12:00:00.25Z",
    "2026-01-31T13:00:00.25+01:00",
    "2026-01-31T00:30:00.25-11:30",
    1769860800.25,
]


async def test_times_in_all_their_forms(api: httpx.AsyncClient, device: int) -> None:
    answers = [await api.post("/stats", json=reading(device, form)) for form in SAME_MOMENT]
    assert [answer.status_code for answer in answers] == [201] + [200] * (len(SAME_MOMENT) - 1)
    assert {answer.json()["timestamp"] for answer in answers} == {"2026-01-31T12:00:00.250000Z"}


async def test_the_limits_of_accepted_values(api: httpx.AsyncClient, device: int) -> None:
    soon = (datetime.now(UTC) + timedelta(hours=23, minutes=59)).isoformat()
    old = datetime.now(UTC) - Settings().oldest_age + timedelta(minutes=1)
    for good in (old.isoformat(), old.timestamp(), soon, time.time() + 86_000):
        answer = await api.post("/stats", json=reading(device, good))
        assert answer.status_code in (200, 201), good
    for axis in (-1000, 1000, 0, -0.0, 5e-324, 999.9999999999999):
        answer = await api.post("/stats", json=reading(device, x=axis, y=axis, z=axis))
        assert (answer.status_code, answer.json()["x"]) == (201, axis)


async def test_times_that_are_refused(api: httpx.AsyncClient, device: int) -> None:
    late = datetime.now(UTC) + timedelta(days=1, minutes=1)
    old = datetime.now(UTC) - Settings().oldest_age - timedelta(minutes=1)
    for bad in (
        late.isoformat(), late.timestamp(), old.isoformat(), old.timestamp(), -1, 0, 86_400, -1e-6, 1e300, 10**400,
        "9999-12-31T23:59:59Z", "0001-01-01T00:00:00Z",
        "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "1969-12-31T23:59:59.999999Z", "yesterday", "",
        "2026-01-31", "2026-02-30T00:00:00Z", "2026-01-31T12:00:00+25:00", "1769860800", True, [], {},
    ):  # fmt: skip
        answer = await api.post("/stats", json=reading(device, bad))
        assert (answer.status_code, fields(answer)) == (422, ["timestamp"]), bad


async def test_one_wrong_element_is_named_and_nothing_is_stored(api: httpx.AsyncClient, device: int) -> None:
    good = reading(device, at(0))
    cases = [
        ([good, {**good, "x": 1000.0001}], 422, ["[1].x"]),
        ([good, good, reading(device, -1)], 422, ["[2].timestamp"]),
        ([good, reading(device + 999)], 400, ["[1].device_id"]),
        ([good, {"y": "2"}], 422, ["[1].device_id", "[1].x", "[1].y", "[1].z"]),
        ([good, 5], 422, ["[1]"]),
        ([good, [good]], 422, ["[1]"]),
    ]
    for body, status, named in cases:
        answer = await api.post("/stats", json=body)
        assert (answer.status_code, fields(answer)) == (status, named)
    assert (await api.get(f"/stats/{device}")).json() == []


async def test_an_unknown_device_is_a_bad_request(api: httpx.AsyncClient, device: int) -> None:
    for unknown in (device + 1, 0, -1, 2**63, 10**30):
        answer = await api.post("/stats", json=reading(unknown))
        assert (answer.status_code, answer.json()["type"]) == (400, "/problems/unknown-device")
        assert fields(answer) == ["device_id"]


async def test_unknown_fields_are_ignored(api: httpx.AsyncClient, device: int) -> None:
    answer = await api.post("/stats", json={**reading(device), "unit": "mm", "nested": {"a": [1]}})
    assert answer.status_code == 201


# Reading, in pages.


async def test_both_ends_of_the_period_are_included(api: httpx.AsyncClient, device: int) -> None:
    await api.post("/stats", json=[reading(device, at(second), x=second) for second in range(6)])

    async def seconds(**period: str) -> list[float]:
        return [found["x"] for found in (await api.get(f"/stats/{device}", params=period)).json()]

    assert await seconds(start=at(2), end=at(4)) == [2, 3, 4]
    assert await seconds(start=at(4)) == [4, 5]
    assert await seconds(end=at(1)) == [0, 1]
    assert await seconds(start=at(3), end=at(3)) == [3]
    assert await seconds(start=at(9)) == []
    assert await seconds(start="2026-01-31T13:00:02+01:00", end="2026-01-31T12:00:03") == [2, 3]
    assert await seconds(start="2026-01-31", end="2026-02-01", order="desc") == [5, 4, 3, 2, 1, 0]
    assert await seconds(end="1769860801") == [0, 1]


async def test_a_plus_that_was_decoded_as_a_space_is_an_offset(api: httpx.AsyncClient, device: int) -> None:
    await api.post("/stats", json=reading(device, at(0)))
    found = await api.get(f"/stats/{device}?start=2026-01-31T13:00:00+01:00&end=2026-01-31T13:00:00 01:00")
    assert len(found.json()) == 1


async def walk(api: httpx.AsyncClient, address: str) -> list[list[Any]]:
    pages = []
    following: str | None = address
    while following is not None:
        page = await api.get(following)
        assert page.status_code == 200
        pages.append(page.json())
        following = page.links["next"]["url"] if "next" in page.links else None
    return pages


async def test_pages_contain_every_reading_once_in_order(api: httpx.AsyncClient, device: int) -> None:
    """Over three months, with many readings at one time, so that pages end between them."""
    moments = [at(0)] * 9 + [at(86_400 * day) for day in range(60)]
    given = [reading(device, moment, x=n % 3, y=-(n % 2), z=n) for n, moment in enumerate(moments)]
    stored = (await api.post("/stats", json=given)).json()
    in_order = sorted(stored, key=lambda r: (r["timestamp"], r["x"], r["y"], r["z"]))
    for limit in (1, 2, 7, 69, 70):
        for order, expected in (("asc", in_order), ("desc", in_order[::-1])):
            pages = await walk(api, f"/stats/{device}?limit={limit}&order={order}")
            assert [found for page in pages for found in page] == expected
            assert {len(page) for page in pages[:-1]} <= {limit}
            assert len(pages) == -(-len(given) // limit)


async def test_every_page_has_the_period_of_the_first(api: httpx.AsyncClient, device: int) -> None:
    await api.post("/stats", json=[reading(device, at(second), x=second) for second in range(20)])
    for order in ("asc", "desc"):
        address = f"/stats/{device}?limit=3&order={order}&start={at(4)[:19]}&end={at(14)[:19]}"
        seconds = [found["x"] for page in await walk(api, address) for found in page]
        assert sorted(seconds) == list(range(4, 15))


async def test_a_cursor_is_stable_while_readings_are_stored(api: httpx.AsyncClient, device: int) -> None:
    await api.post("/stats", json=[reading(device, at(second), x=second) for second in (2, 4, 6)])
    first = await api.get(f"/stats/{device}?limit=2")
    await api.post("/stats", json=[reading(device, at(second), x=second) for second in (1, 3, 5)])
    second = await api.get(first.links["next"]["url"])
    assert [found["x"] for found in first.json() + second.json()] == [2, 4, 5, 6]


async def test_cursors_of_other_lists(api: httpx.AsyncClient, device: int) -> None:
    other = (await api.post("/devices", json={"name": "Other"})).json()["id"]
    await api.post("/stats", json=[reading(device, at(second)) for second in range(3)])
    cursor = (await api.get(f"/stats/{device}?limit=1")).headers["x-next-cursor"]
    devices_cursor = (await api.get("/devices?limit=1")).headers["x-next-cursor"]
    for address in (
        f"/stats/{other}?cursor={cursor}",
        f"/stats/{device}?order=desc&cursor={cursor}",
        f"/stats/{device}?cursor={devices_cursor}",
        f"/stats/{device}?cursor={cursor[:-3]}",
        f"/stats/{device}?cursor=AAAA",
        f"/stats/{device}?cursor=",
        f"/stats/{device}?cursor=not a cursor!",
        f"/devices?cursor={cursor}",
        f"/stats/analysis/result/{device}?cursor={cursor}",
    ):
        answer = await api.get(address)
        assert (answer.status_code, answer.json()["type"]) == (400, "/problems/bad-cursor"), address
        assert fields(answer) == ["cursor"]


async def test_parameters_that_a_list_refuses(api: httpx.AsyncClient, device: int) -> None:
    for query, status, named in (
        ("limit=0", 422, ["limit"]),
        ("limit=10001", 422, ["limit"]),
        ("limit=x", 422, ["limit"]),
        ("order=up", 422, ["order"]),
        ("start=x&end=y", 422, ["start", "end"]),
        ("start=2026-01-02&end=2026-01-01", 400, ["start"]),
    ):
        answer = await api.get(f"/stats/{device}?{query}")
        assert answer.status_code == status, query
        assert fields(answer) == named


# Reading, as a stream.


async def test_streams_equal_the_pages(api: httpx.AsyncClient, device: int) -> None:
    given = [reading(device, at(86_400 * n + n % 3 / 4), x=n / 7, y=-n, z=1e-7 * n) for n in range(40)]
    await api.post("/stats", json=given)
    for query in ("", "?order=desc", f"?start={at(86_400 * 5)[:19]}&end={at(86_400 * 9)[:19]}"):
        listed = (await api.get(f"/stats/{device}{query}")).json()
        ndjson = await api.get(f"/stats/{device}{query}", headers={"accept": "application/x-ndjson"})
        table = await api.get(f"/stats/{device}{query}", headers={"accept": "text/csv, application/json;q=0.5"})
        assert (ndjson.headers["content-type"], table.headers["content-type"]) == (
            "application/x-ndjson",
            "text/csv; charset=utf-8",
        )
        rows = [
            {name: value if name == "timestamp" else float(value) for name, value in row.items()}
            for row in csv.DictReader(io.StringIO(table.text))
        ]
        assert rows == [json.loads(line) for line in ndjson.text.splitlines()]
        assert rows == listed


async def test_an_empty_stream(api: httpx.AsyncClient, device: int) -> None:
    table = await api.get(f"/stats/{device}", headers={"accept": "text/csv"})
    lines = await api.get(f"/stats/{device}", headers={"accept": "application/x-ndjson"})
    assert table.text == "id,device_id,x,y,z,timestamp\n"
    assert (lines.status_code, lines.text) == (200, "")
    unknown = await api.get("/stats/999", headers={"accept": "text/csv"})
    assert (unknown.status_code, unknown.headers["content-type"]) == (404, "application/problem+json")


@pytest.fixture
async def long_history(device: int, database: psycopg.AsyncConnection[Any]) -> int:
    """60,000 readings of the device over a year and a half, and as many of other devices."""
    count, step = 60_000, 780
    start = to_microseconds(NOON)
    readings = [
        Reading(owner, start + n * step * 1_000_000, start, n % 100, n % 7, n % 13)
        for n in range(count)
        for owner in (device, device + 1 + n % 20)
    ]
    await prepare(database)
    await Partitions().ensure(database, readings)
    async with database.transaction():
        await store(database, readings, Announcements())
    await database.execute("ANALYZE readings")
    return count


COPYING = """
    SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND state = 'active' AND query LIKE 'COPY%'
"""


async def test_a_disconnect_frees_the_connection(
    api: httpx.AsyncClient, device: int, long_history: int, database: psycopg.AsyncConnection[Any]
) -> None:
    for _ in range(10):  # more than there are connections for streams
        async with api.stream("GET", f"/stats/{device}", headers={"accept": "text/csv"}) as answer:
            assert answer.status_code == 200
            assert (await anext(answer.aiter_bytes())).startswith(b"id,device_id")

    async def copying() -> int:
        row = await (await database.execute(COPYING)).fetchone()
        assert row is not None
        return int(row[0])

    await eventually(copying, lambda count: count == 0)
    whole = await api.get(f"/stats/{device}", headers={"accept": "text/csv"})
    assert whole.text.count("\n") == long_history + 1


async def test_more_streams_than_there_are_places(
    api_settings: Settings, database: psycopg.AsyncConnection[Any]
) -> None:
    tuning = Tuning(streams=Bounds(running=1, each=2, waiting=1, waiting_each=1), pool_wait_s=0.3)

    async with services.api(api_settings, tuning) as api, asyncio.TaskGroup() as tasks:
        device = (await api.post("/devices", json={"name": "Boiler"})).json()["id"]

        def stream() -> Coroutine[Any, Any, httpx.Response]:
            return api.get(f"/stats/{device}", headers={"accept": "text/csv"})

        async with database.transaction():
            await database.execute("LOCK TABLE readings IN ACCESS EXCLUSIVE MODE")
            first = tasks.create_task(stream())
            await eventually(lambda: locks.waiting(database), lambda seen: len(seen) == 1)
            refused = await stream()
        assert (refused.status_code, refused.json()["type"]) == (503, "/problems/busy")
        assert "1 streams are running" in refused.json()["detail"]
        assert int(refused.headers["retry-after"]) > 0
        assert (await first).status_code == 200
        assert (await stream()).status_code == 200


async def test_a_page_uses_the_unique_index_only(
    device: int, long_history: int, database: psycopg.AsyncConnection[Any]
) -> None:
    """At any start: no sort, and only the returned rows are read."""
    late = to_microseconds(NOON + timedelta(days=400))
    for order, statement in PAGES.items():
        for after in (None, _ReadingsAfter(device, order, late, 1.0, 2.0, 3.0)):
            for period in (Period(None, None), Period(NOON + timedelta(days=40), NOON + timedelta(days=450))):
                parameters = page_parameters(device, period, after, 101)
                explain = b"EXPLAIN (ANALYZE, FORMAT JSON) " + statement.encode()
                row = await (await database.execute(explain, parameters)).fetchone()
                assert row is not None
                found = below(row[0][0]["Plan"])
                scans = [node for node in found if "Relation Name" in node]
                assert not [node for node in found if "Sort" in node["Node Type"]]
                assert {node["Node Type"] for node in scans} == {"Index Scan"}
                assert all("_device_id_recorded_at_x_y_z_key" in node["Index Name"] for node in scans)
                read = sum(node["Actual Rows"] + node.get("Rows Removed by Filter", 0) for node in scans)
                assert read == 101


async def test_a_dropped_partition_is_created_again(
    api: httpx.AsyncClient, device: int, database: psycopg.AsyncConnection[Any]
) -> None:
    await api.post("/stats", json=reading(device, at(0)))
    await database.execute("DROP TABLE readings_2026_01")
    answer = await api.post("/stats", json=reading(device, at(0)))
    assert answer.status_code == 201


async def test_readings_survive_a_restart(api_settings: Settings) -> None:
    async with services.api(api_settings) as api:
        device = (await api.post("/devices", json={"name": "Boiler"})).json()["id"]
        stored = (await api.post("/stats", json=reading(device))).json()
    async with services.api(api_settings) as api:
        assert (await api.get(f"/stats/{device}")).json() == [stored]
