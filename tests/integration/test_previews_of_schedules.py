"""The ticks to come of a schedule before it is saved, and its past ticks with their results."""

import json
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

import httpx
import pytest

from query_api.analyses.schedules import ticks as past_ticks
from query_api.analyses.schedules.fields import PlannedTimes
from query_api.analyses.schedules.preview import TICKS, preview
from query_api.analyses.schedules.timing import read_timing
from query_api.worker.ticks import run_due_ticks
from shared.settings import Settings
from tests import services
from tests.conftest import Database
from tests.integration.test_problems import assert_problem
from tests.integration.test_schedules import NIGHTLY, PATH, WRONG, make, moment
from tests.waiting import eventually

PREVIEW = f"{PATH}/preview"
TIMES = ("cron", "timezone", "period")
BERLIN = ZoneInfo("Europe/Berlin")


async def test_a_preview_has_the_ticks_that_the_schedule_then_has(
    api: httpx.AsyncClient, device: int, database: Database
) -> None:
    seen = (await api.get(PREVIEW, params=NIGHTLY)).json()
    assert seen["description"] == "At 02:00 every day"
    assert len(seen["ticks"]) == TICKS
    made = await make(api, device)
    assert (made["description"], made["device_name"]) == (seen["description"], "Boiler, north")
    assert (made["next_tick"], made["latest_status"]) == (seen["ticks"][0]["tick"], None)
    local = [moment(tick["tick"]).astimezone(BERLIN) for tick in seen["ticks"]]
    assert [tick.time().isoformat() for tick in local] == ["02:00:00"] * TICKS
    assert {(after.date() - before.date()).days for before, after in pairwise(local)} == {1}

    # The worker computes the same period for the tick.
    await database.execute("UPDATE analysis_schedules SET next_tick = '2026-01-15T01:00Z'")
    assert await run_due_ticks(database) == 1
    ran = (await api.get(f"{PATH}/{made['id']}")).json()
    assert ran["latest_status"] == "queued"
    request = (await api.get(f"/stats/analysis/requests/{ran['latest_request']}")).json()
    day = timedelta(days=1)
    assert moment(request["end"]).astimezone(BERLIN) + day == moment(seen["ticks"][0]["end"]).astimezone(BERLIN)


def at(now: str, cron: str, zone: str = "Europe/Berlin", period: str | None = "P1D") -> list[tuple[str, str | None]]:
    """Return the ticks and the starts of their periods after a time."""
    timing = read_timing(PlannedTimes(cron=cron, timezone=zone, period=period, align=True))
    found = preview(timing, datetime.fromisoformat(now)).ticks

    def shown(time: datetime | None) -> str | None:
        return time and time.astimezone(ZoneInfo(zone)).isoformat(timespec="minutes")

    return [(str(shown(tick.tick)), shown(tick.start)) for tick in found]


def test_ticks_where_clocks_change() -> None:
    assert at("2026-03-27T12:00Z", "30 2 * * *")[:3] == [
        ("2026-03-28T02:30+01:00", "2026-03-27T00:00+01:00"),
        ("2026-03-29T03:00+02:00", "2026-03-28T00:00+01:00"),  # 02:30 is skipped
        ("2026-03-30T02:30+02:00", "2026-03-29T00:00+01:00"),
    ]
    assert [tick for tick, _ in at("2026-10-24T23:00Z", "30 * * * *")] == [
        "2026-10-25T01:30+02:00", "2026-10-25T02:30+02:00", "2026-10-25T02:30+01:00", "2026-10-25T03:30+01:00",
        "2026-10-25T04:30+01:00",
    ]  # fmt: skip
    assert [tick for tick, _ in at("2026-10-24T12:00Z", "30 2 * * *")][:2] == [
        "2026-10-25T02:30+02:00",
        "2026-10-26T02:30+01:00",
    ]


def test_a_period_of_all_time_has_no_ends() -> None:
    assert {start for _, start in at("2026-01-01T00:00Z", "@hourly", period=None)} == {None}


_TIMED = [case for case in WRONG if case[1] in TIMES and all(isinstance(value, str) for value in case[0].values())]


@pytest.mark.parametrize(("changes", "field", "part"), _TIMED)
async def test_a_preview_is_refused_in_the_words_of_saving(
    api: httpx.AsyncClient, device: int, changes: dict[str, Any], field: str, part: str
) -> None:
    saved = await api.post(PATH, json={"device_id": device, **NIGHTLY, **changes})
    previewed = await api.get(PREVIEW, params={**NIGHTLY, **changes})
    assert_problem(previewed, 422)
    assert previewed.json()["detail"] == saved.json()["detail"]
    (fault,) = [fault for fault in previewed.json()["errors"] if fault["field"] == field]
    assert fault in saved.json()["errors"]
    assert part in fault["detail"]


def test_there_are_such_cases() -> None:
    assert {field for _, field, _ in _TIMED} >= {"cron", "timezone", "period"}


async def test_parameters_of_a_preview(api: httpx.AsyncClient) -> None:
    missing = await api.get(PREVIEW)
    assert_problem(missing, 422)
    assert "cron" in missing.json()["detail"]
    plain = (await api.get(PREVIEW, params={"cron": "@hourly"})).json()
    assert plain["description"] == "At minute 0 of every hour"
    assert {tick["start"] for tick in plain["ticks"]} == {None}
    aligned, moving = [
        (await api.get(PREVIEW, params={"cron": "30 * * * *", "period": "PT1H", "align": align})).json()["ticks"][0]
        for align in ("true", "false")
    ]
    assert moment(moving["end"]) - moment(aligned["end"]) == timedelta(minutes=30)
    assert_problem(await api.get(PREVIEW, params={"cron": "@hourly", "align": "x"}), 422)


async def test_an_expression_of_another_version_has_no_words(
    api: httpx.AsyncClient, device: int, database: Database
) -> None:
    made = await make(api, device)
    await database.execute("UPDATE analysis_schedules SET cron = '0 2 * * MON#2'")
    assert (await api.get(f"{PATH}/{made['id']}")).json()["description"] is None


# Past ticks.


async def ticked(api: httpx.AsyncClient, device: int, database: Database, days: int) -> str:
    """Create a schedule that has ticked on the first days of January. Return its path."""
    path = f"{PATH}/{(await make(api, device, figures=['mean']))['id']}"
    number = int(path.rpartition("/")[2])
    for day in range(1, days + 1):
        await database.execute(
            "WITH request AS (INSERT INTO analysis_requests (device_id, period, figures) VALUES "
            "(%(device)s, tstzrange(%(tick)s - interval '1 day', %(tick)s, '[]'), '{mean}') RETURNING id) "
            "INSERT INTO analysis_ticks (schedule_id, tick, request_id) SELECT %(number)s, %(tick)s, id FROM request",
            {"device": device, "number": number, "tick": datetime(2026, 1, day, 1, tzinfo=UTC)},
        )
    await database.execute("UPDATE analysis_schedules SET last_tick = (SELECT max(tick) FROM analysis_ticks)")
    return path


async def test_past_ticks_have_their_results(
    api: httpx.AsyncClient, device: int, database: Database, api_settings: Settings
) -> None:
    path = await ticked(api, device, database, 3)
    await api.post("/stats", json={"device_id": device, "x": 1, "y": 2, "z": 3, "timestamp": "2026-01-01T12:00:00Z"})

    async def statuses() -> set[str]:
        return {tick["status"] for tick in (await api.get(f"{path}/ticks")).json()}

    assert await statuses() == {"queued"}
    async with services.worker(api_settings):
        await eventually(statuses, lambda seen: seen == {"done"})
    found = (await api.get(f"{path}/ticks")).json()
    assert [tick["tick"] for tick in found] == [f"2026-01-0{day}T01:00:00.000000Z" for day in (3, 2, 1)]
    assert [tick["x"]["count"] for tick in found] == [0, 1, 0]
    assert (found[1]["y"]["mean"], found[1]["start"], found[1]["end"]) == (
        2, "2026-01-01T01:00:00.000000Z", "2026-01-02T01:00:00.000000Z",
    )  # fmt: skip
    request = (await api.get(f"/stats/analysis/requests/{found[1]['request_id']}")).json()
    assert {axis: request["result"][axis] for axis in "xyz"} == {axis: found[1][axis] for axis in "xyz"}
    await database.execute("DELETE FROM analysis_requests WHERE id = %s", (found[1]["request_id"],))
    gone = (await api.get(f"{path}/ticks")).json()[1]
    nothing = ("request_id", "status", "last_error", "start", "end", "x", "y", "z")
    assert gone == {"tick": found[1]["tick"], **dict.fromkeys(nothing)}


async def test_past_ticks_are_listed_in_pages(api: httpx.AsyncClient, device: int, database: Database) -> None:
    path = await ticked(api, device, database, 7)
    everything = (await api.get(f"{path}/ticks")).json()
    paged, address = [], f"{path}/ticks?limit=3&start=2026-01-02"
    while address:
        answer = await api.get(address)
        paged += answer.json()
        address = answer.links["next"]["url"] if "next" in answer.links else ""
    assert paged == everything[:6]
    until = await api.get(f"{path}/ticks", params={"end": "2026-01-02T01:00:00Z"})
    assert until.json() == everything[5:]
    other = await make(api, device)
    assert (await api.get(f"{PATH}/{other['id']}/ticks")).json() == []
    cursor = (await api.get(f"{path}/ticks", params={"limit": 1})).headers["x-next-cursor"]
    assert_problem(await api.get(f"{PATH}/{other['id']}/ticks", params={"cursor": cursor}), 400)
    assert_problem(await api.get(f"{path}/ticks", params={"start": "2026-02-01", "end": "2026-01-01"}), 400)
    for unknown in (999, 0, 10**40):
        assert_problem(await api.get(f"{PATH}/{unknown}/ticks"), 404)


async def test_a_page_of_ticks_reads_the_index(api: httpx.AsyncClient, device: int, database: Database) -> None:
    number = (await make(api, device))["id"]
    await database.execute(
        "INSERT INTO analysis_ticks (schedule_id, tick) SELECT id, '2026-01-01'::timestamptz + n * interval '1 min' "
        "FROM generate_series(%s::bigint, %s::bigint + 20) AS id, generate_series(1, 2000) AS n",
        (number, number),
    )
    await database.execute("VACUUM ANALYZE analysis_ticks")
    values = {"schedule_id": number, "start": None, "end": None, "before": datetime(2026, 1, 2, tzinfo=UTC), "limit": 9}
    explain = b"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) " + past_ticks._SELECT.encode()
    (plan,) = await (await database.execute(explain, values)).fetchone() or (None,)
    assert plan is not None
    assert "analysis_ticks_once" in json.dumps(plan)
    assert plan[0]["Plan"]["Shared Hit Blocks"] + plan[0]["Plan"]["Shared Read Blocks"] < 100
