"""Schedules over HTTP: creating, listing, pausing, changing, deleting, and refusals."""

from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import msgspec
import pytest

from query_api.calendar.cron import MAX_LENGTH
from query_api.worker.ticks import run_due_ticks
from shared.settings import Settings
from tests.conftest import Database
from tests.integration.test_problems import assert_problem

PATH = "/stats/analysis/schedules"
CALLBACK = "https://example.org/analyses"
NIGHTLY = {"cron": "0 2 * * *", "timezone": "Europe/Berlin", "period": "P1D"}


@pytest.fixture
def api_settings(api_settings: Settings) -> Settings:
    """Settings with a secret for callbacks."""
    return msgspec.structs.replace(api_settings, webhook_secret="a secret for the tests")


async def make(api: httpx.AsyncClient, device: int, **changes: Any) -> dict[str, Any]:
    answer = await api.post(PATH, json={"device_id": device, **NIGHTLY, **changes})
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    assert answer.headers["location"] == f"{PATH}/{made['id']}"
    return made


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


async def test_a_schedule_is_created_and_returned(api: httpx.AsyncClient, device: int) -> None:
    made = await make(api, device, figures=["p95", "mean", "p95.0"], name="Every night", callback=CALLBACK)
    assert {name: made[name] for name in NIGHTLY} == NIGHTLY
    assert (made["device_id"], made["name"], made["callback"]) == (device, "Every night", CALLBACK)
    assert made["align"] is True
    assert made["figures"] == ["mean", "p95"]
    assert (made["paused"], made["last_tick"], made["latest_request"]) == (False, None, None)
    assert (await api.get(f"{PATH}/{made['id']}")).json() == made
    ahead = moment(made["next_tick"]) - datetime.now(UTC)
    assert timedelta(0) < ahead < timedelta(hours=26)
    least = (await api.post(PATH, json={"device_id": device, "cron": "@hourly", "period": None})).json()
    assert (least["timezone"], least["period"], least["figures"], least["callback"]) == ("UTC", None, [], None)
    assert moment(least["next_tick"]).minute == 0


async def test_pages_of_schedules(api: httpx.AsyncClient, device: int) -> None:
    other = (await api.post("/devices", json={"name": "Another"})).json()["id"]
    ids = [(await make(api, owner))["id"] for owner in (device, other, device, other, device)]
    seen, path = [], f"{PATH}?limit=2"
    while path:
        page = await api.get(path)
        seen += [schedule["id"] for schedule in page.json()]
        path = page.links["next"]["url"] if "next" in page.links else ""
    assert seen == ids
    ours = await api.get(PATH, params={"device_id": device})
    assert [schedule["id"] for schedule in ours.json()] == ids[::2]
    for unknown in (10**6, -1, 10**30):
        answer = await api.get(PATH, params={"device_id": unknown})
        assert (answer.status_code, answer.json()) == (200, [])
    foreign = (await api.get("/devices?limit=1")).headers["x-next-cursor"]
    assert_problem(await api.get(PATH, params={"cursor": foreign}), 400)
    assert_problem(await api.get(PATH, params={"device_id": "x"}), 422)


async def test_pausing_and_resuming(api: httpx.AsyncClient, device: int, database: Database) -> None:
    made = await make(api, device)
    path = f"{PATH}/{made['id']}"
    paused = (await api.patch(path, json={"paused": True})).json()
    assert (paused["paused"], paused["next_tick"]) == (True, None)
    assert (await api.get(path)).json() == paused
    assert (await api.patch(path, json={"cron": "@hourly"})).json()["next_tick"] is None
    resumed = (await api.patch(path, json={"paused": False, "cron": NIGHTLY["cron"]})).json()
    assert resumed == made
    # What is due already stays due, unless it is paused.
    await database.execute("UPDATE analysis_schedules SET next_tick = '2026-01-01T01:00Z'")
    for changes in (
        {"paused": False},
        {"name": None, "period": "P1M", "align": False, "figures": ["mean"]},
        {"timezone": "Asia/Tokyo", "cron": "@hourly"},
        {},
    ):
        assert (await api.patch(path, json=changes)).json()["next_tick"] == "2026-01-01T01:00:00.000000Z"
    assert (await api.patch(path, json={"paused": True})).json()["next_tick"] is None
    assert (await api.patch(path, json={"paused": False})).json()["next_tick"] > "2026-01-02"
    changed = (await api.get(path)).json()
    assert (changed["period"], changed["align"], changed["figures"]) == ("P1M", False, ["mean"])
    assert (await api.patch(path, json={"period": None})).json()["period"] is None


async def test_a_change_keeps_a_due_tick(api: httpx.AsyncClient, device: int, database: Database) -> None:
    path = f"{PATH}/{(await make(api, device))['id']}"
    due = datetime.now(UTC).replace(microsecond=0)
    await database.execute("UPDATE analysis_schedules SET next_tick = %s", (due,))
    later = f"0 0 1 {(due + timedelta(days=60)).month} *"
    assert moment((await api.patch(path, json={"cron": later})).json()["next_tick"]) == due
    assert await run_due_ticks(database) == 1
    ticked = (await api.get(path)).json()
    assert moment(ticked["last_tick"]) == due
    assert ticked["latest_request"] is not None
    assert moment(ticked["next_tick"]) > due + timedelta(days=20)


async def test_a_schedule_has_the_request_of_its_last_tick(
    api: httpx.AsyncClient, device: int, database: Database
) -> None:
    path = f"{PATH}/{(await make(api, device))['id']}"
    await database.execute("UPDATE analysis_schedules SET next_tick = '2026-01-15T01:00Z'")
    before = datetime.now(UTC)
    assert await run_due_ticks(database) == 1
    seen = (await api.get(path)).json()
    assert before - timedelta(hours=26) < moment(seen["last_tick"]) <= datetime.now(UTC) < moment(seen["next_tick"])
    request = (await api.get(f"/stats/analysis/requests/{seen['latest_request']}")).json()
    assert (request["device_id"], request["status"]) == (device, "queued")
    assert before - timedelta(hours=52) < moment(request["start"]) < moment(request["end"]) < moment(seen["last_tick"])
    assert (await api.get(PATH)).json() == [seen]
    assert (await api.patch(path, json={"paused": True})).json()["latest_request"] == request["id"]


async def test_deleting(api: httpx.AsyncClient, device: int) -> None:
    kept, gone = (await make(api, device))["id"], (await make(api, device))["id"]
    answer = await api.delete(f"{PATH}/{gone}")
    assert (answer.status_code, answer.content) == (204, b"")
    for method in ("GET", "DELETE"):
        assert_problem(await api.request(method, f"{PATH}/{gone}"), 404)
    assert_problem(await api.patch(f"{PATH}/{gone}", json={"paused": True}), 404)
    assert [schedule["id"] for schedule in (await api.get(PATH)).json()] == [kept]
    assert (await api.delete(f"/devices/{device}")).status_code == 204
    assert (await api.get(PATH)).json() == []


WRONG: list[tuple[dict[str, Any], str, str]] = [
    ({"cron": "0 2 * *"}, "cron", "4 of the five fields"),
    ({"cron": "0 0 30 2 *"}, "cron", "never ticks"),
    ({"cron": "61 * * * *"}, "cron", "takes 0 to 59"),
    ({"cron": "\0"}, "cron", "five fields"),
    ({"cron": ""}, "cron", "five fields"),
    ({"cron": "* " * MAX_LENGTH}, "cron", "at most 200 characters"),
    ({"cron": 5}, "cron", "got 5"),
    ({"timezone": "Europe/Bärlin"}, "timezone", "Europe/Berlin"),
    ({"timezone": "../../etc/passwd"}, "timezone", "Europe/Berlin"),
    ({"timezone": "\0"}, "timezone", "Europe/Berlin"),
    ({"timezone": None}, "timezone", "got null"),
    ({"period": "1 day"}, "period", "P1D"),
    ({"period": "P0D"}, "period", "at least a second"),
    ({"period": "P999999Y"}, "period", "century"),
    ({"period": "P1D\0"}, "period", "P1D"),
    ({"align": "yes"}, "align", "true or false"),
    ({"figures": ["mode"]}, "figures", "stddev"),
    ({"figures": ["p101"]}, "figures", "stddev"),
    ({"figures": [f"p{n}" for n in range(22)]}, "figures", "20"),
    ({"figures": "mean"}, "figures", "array"),
    ({"figures": ["mean\0"]}, "figures", "stddev"),
    ({"callback": "ftp://example.org"}, "callback", "http://"),
    ({"callback": ""}, "callback", "http://"),
    ({"callback": "http://127.0.0.1/"}, "callback", "public"),
    ({"callback": "http://a/" + "b" * 2000}, "callback", "2,000"),
    ({"name": "a\0"}, "name", "NUL"),
    ({"name": "a" * 201}, "name", "200"),
]


async def test_wrong_fields_are_named(api: httpx.AsyncClient, device: int) -> None:
    number = (await make(api, device))["id"]
    for changes, field, reason in WRONG:
        made = await api.post(PATH, json={"device_id": device, **NIGHTLY, **changes})
        for answer in (made, await api.patch(f"{PATH}/{number}", json=changes)):
            (fault,) = assert_problem(answer, 422)["errors"]
            assert (fault["field"], reason in fault["detail"]) == (field, True), fault
    assert len((await api.get(PATH)).json()) == 1


async def test_all_wrong_fields_are_named_together(api: httpx.AsyncClient, device: int) -> None:
    wrong = {"device_id": device, "cron": "x", "timezone": "y", "period": "z"}
    details = assert_problem(await api.post(PATH, json=wrong), 422)
    assert {fault["field"] for fault in details["errors"]} == {"cron", "timezone", "period"}
    missing = assert_problem(await api.post(PATH, json={}), 422)
    assert {fault["field"] for fault in missing["errors"]} == {"device_id", "cron", "period"}
    assert (
        "time_zone"
        in assert_problem(await api.post(PATH, json={"device_id": device, **NIGHTLY, "time_zone": "UTC"}), 422)[
            "detail"
        ]
    )


async def test_unknown_schedules(api: httpx.AsyncClient) -> None:
    for unknown in (1, 0, -1, 2**63, 10**40):
        details = assert_problem(await api.post(PATH, json={"device_id": unknown, **NIGHTLY}), 400)
        assert (details["type"], details["errors"][0]["field"]) == ("/problems/unknown-device", "device_id")
        assert_problem(await api.get(f"{PATH}/{unknown}"), 404)
        assert_problem(await api.delete(f"{PATH}/{unknown}"), 404)
        assert_problem(await api.patch(f"{PATH}/{unknown}", json={"paused": True}), 404)
    assert_problem(await api.get(f"{PATH}/x"), 422)
    assert_problem(await api.put(f"{PATH}/1", json={}), 405)
    options = await api.options(f"{PATH}/1")
    assert {"GET", "PATCH", "DELETE"} <= set(options.headers["allow"].replace(" ", "").split(","))
