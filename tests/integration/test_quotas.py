"""Quotas of an analyst key, and the visibility of the callbacks of other keys."""

from collections.abc import AsyncIterator
from typing import Any

import httpx
import msgspec
import pytest

from shared.access import keys as access_keys
from shared.access.credentials import Role
from shared.settings import Settings
from tests import services
from tests.conftest import Database
from tests.credentials import TESTER, bearer, key

SCHEDULES, REQUESTS = "/stats/analysis/schedules", "/stats/analysis/requests"
DAILY = {"device_id": 1, "cron": "0 2 * * *", "period": "P1D"}
HOOK = "https://example.org/hook"


@pytest.fixture
async def analysts(database: Database) -> list[dict[str, str]]:
    """The headers of two analysts and an admin."""
    await database.execute("INSERT INTO devices (key, name) VALUES ('d', 'd')")
    admin = await access_keys.create(database, TESTER, Role.ADMIN, "admin", None)
    return [bearer(await key(database, Role.ANALYST)), bearer(await key(database, Role.ANALYST)), bearer(admin.text)]


@pytest.fixture
async def api(api_settings: Settings, analysts: list[dict[str, str]]) -> AsyncIterator[httpx.AsyncClient]:
    settings = msgspec.structs.replace(
        api_settings, auth="on", schedules_per_key=2, queued_per_key=3, webhook_secret="s" * 16
    )
    async with services.api(settings) as client:
        yield client


async def ask(api: httpx.AsyncClient, who: dict[str, str], start: int, **more: Any) -> httpx.Response:
    return await api.post("/stats/analysis/1/async", params={"start": 10**9 + start, **more}, headers=who)


async def test_the_queued_requests_of_an_analyst_are_limited(
    api: httpx.AsyncClient, analysts: list[dict[str, str]], database: Database
) -> None:
    first, second, admin = analysts
    assert [(await ask(api, first, start)).status_code for start in (0, 1, 2, 2)] == [202] * 4  # the last joins
    refused = await ask(api, first, 3)
    assert (refused.status_code, refused.json()["type"]) == (429, "/problems/too-many-requests")
    assert "3 queued analyses" in refused.json()["detail"]
    assert "QUEUED_PER_KEY" in refused.json()["detail"]
    assert refused.headers["retry-after"]
    assert (await ask(api, second, 3)).status_code == 202
    assert [(await ask(api, admin, start)).status_code for start in range(10, 15)] == [202] * 5
    await database.execute("UPDATE analysis_requests SET status = 'done', joinable = false, finished_at = now()")
    assert (await ask(api, first, 4)).status_code == 202


async def test_the_schedules_of_an_analyst_are_limited(api: httpx.AsyncClient, analysts: list[dict[str, str]]) -> None:
    first, second, admin = analysts
    made = [await api.post(SCHEDULES, json=DAILY, headers=first) for _ in range(3)]
    assert [answer.status_code for answer in made] == [201, 201, 429]
    assert "2 schedules" in made[2].json()["detail"]
    assert (await api.post(SCHEDULES, json=DAILY, headers=second)).status_code == 201
    assert [(await api.post(SCHEDULES, json=DAILY, headers=admin)).status_code for _ in range(4)] == [201] * 4
    assert (await api.delete(f"{SCHEDULES}/{made[0].json()['id']}", headers=first)).status_code == 204
    assert (await api.post(SCHEDULES, json=DAILY, headers=first)).status_code == 201


async def test_the_url_of_a_callback_is_visible_to_its_owner_and_admins_only(
    api: httpx.AsyncClient, analysts: list[dict[str, str]]
) -> None:
    first, second, admin = analysts
    asked = await ask(api, first, 0, callback=f"{HOOK}/1")
    assert [callback["url"] for callback in asked.json()["callbacks"]] == [f"{HOOK}/1"]
    joined = await ask(api, second, 0, callback=f"{HOOK}/2")
    assert [callback["url"] for callback in joined.json()["callbacks"]] == [f"{HOOK}/2"]

    async def seen(who: dict[str, str]) -> list[list[str]]:
        one = (await api.get(f"{REQUESTS}/{asked.json()['id']}", headers=who)).json()
        (listed,) = (await api.get(REQUESTS, headers=who)).json()
        return [[callback["url"] for callback in shown["callbacks"]] for shown in (one, listed)]

    assert await seen(first) == [[f"{HOOK}/1"]] * 2
    assert await seen(second) == [[f"{HOOK}/2"]] * 2
    assert await seen(admin) == [[f"{HOOK}/1", f"{HOOK}/2"]] * 2
    cancelled = await api.delete(f"{REQUESTS}/{asked.json()['id']}", headers=second)
    assert [callback["url"] for callback in cancelled.json()["callbacks"]] == [f"{HOOK}/2"]


async def test_the_callback_of_a_schedule_is_visible_to_its_owner_and_admins_only(
    api: httpx.AsyncClient, analysts: list[dict[str, str]]
) -> None:
    first, second, _ = analysts
    made = (await api.post(SCHEDULES, json={**DAILY, "callback": HOOK}, headers=first)).json()
    assert made["callback"] == HOOK
    path = f"{SCHEDULES}/{made['id']}"

    async def seen(who: dict[str, str]) -> list[str | None]:
        (listed,) = (await api.get(SCHEDULES, headers=who)).json()
        return [(await api.get(path, headers=who)).json()["callback"], listed["callback"]]

    assert [await seen(who) for who in analysts] == [[HOOK] * 2, [None] * 2, [HOOK] * 2]
    renamed = (await api.patch(path, json={"name": "n"}, headers=second)).json()
    assert (renamed["name"], renamed["callback"]) == ("n", None)
    assert await seen(first) == [HOOK] * 2
    await api.patch(path, json={"callback": f"{HOOK}/2"}, headers=second)
    assert [await seen(who) for who in analysts] == [[None] * 2, [f"{HOOK}/2"] * 2, [f"{HOOK}/2"] * 2]


async def test_only_requests_of_others_are_audited(
    api: httpx.AsyncClient, analysts: list[dict[str, str]], database: Database
) -> None:
    """A key cannot fill the audit log by cancelling and retrying in a loop. A retry makes a request its own."""
    first, second, _ = analysts
    request = (await ask(api, first, 0)).json()["id"]

    async def audited() -> list[tuple[str, str]]:
        rows = "SELECT action, subject FROM audit_log WHERE action LIKE 'analysis.%' ORDER BY id"
        return await (await database.execute(rows)).fetchall()

    async def cancel_and_retry(who: dict[str, str]) -> None:
        assert (await api.delete(f"{REQUESTS}/{request}", headers=who)).status_code == 200
        assert (await api.post(f"{REQUESTS}/{request}/retry", headers=who)).status_code == 202

    for _ in range(20):
        await cancel_and_retry(first)
    assert await audited() == []
    for _ in range(20):
        await cancel_and_retry(second)
    assert await audited() == [
        ("analysis.cancelled", f"request {request}"), ("analysis.retried", f"request {request}"),
    ]  # fmt: skip
    assert (await api.delete(f"{REQUESTS}/{request}", headers=first)).status_code == 200
    assert len(await audited()) == 3
