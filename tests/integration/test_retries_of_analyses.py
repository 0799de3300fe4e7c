"""Retries of failed and cancelled analyses by a request, and the number of analyses by status."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import msgspec
import pytest

from query_api.queue import callbacks
from query_api.queue import claims as queue
from query_api.queue.retries import Retries
from query_api.worker.ticks import run_due_ticks
from query_api.worker.tuning import Tuning
from shared.postgres.connections import connect
from shared.settings import Settings
from tests import locks, services
from tests.claiming import claim_one
from tests.conftest import Database
from tests.credentials import bearer, keys
from tests.integration.test_problems import assert_problem
from tests.receiver import receiving
from tests.waiting import eventually

REQUESTS = "/stats/analysis/requests"
NO_RETRIES = Retries(max_attempts=1, base=timedelta(0), factor=1, cap=timedelta(0))
REASON = "DataError: a reading that cannot be read"
QUICK = Tuning(poll_s=0.1, jitter_s=0.1)


@pytest.fixture
def api_settings(api_settings: Settings) -> Settings:
    """Settings that allow callbacks to the tests."""
    return msgspec.structs.replace(
        api_settings, webhook_secret="a secret for the tests", webhook_allow_private=True, webhook_ports="all"
    )


async def ask(api: httpx.AsyncClient, device: int, **parameters: str) -> dict[str, Any]:
    answer = await api.post(f"/stats/analysis/{device}/async", params=parameters)
    assert answer.status_code == 202, answer.text
    return dict(answer.json())


async def fail_one(database: Database) -> None:
    """Fail the next queued request."""
    held = await claim_one(database)
    assert held is not None
    assert await queue.fail(database, held, REASON, NO_RETRIES) == "failed"


async def look(api: httpx.AsyncClient, number: int) -> dict[str, Any]:
    return dict((await api.get(f"{REQUESTS}/{number}")).json())


async def done(api: httpx.AsyncClient, number: int) -> dict[str, Any]:
    return await eventually(lambda: look(api, number), lambda seen: seen["status"] == "done")


async def test_a_failed_analysis_is_retried_under_its_id(
    api: httpx.AsyncClient, device: int, database: Database, api_settings: Settings
) -> None:
    asked = await ask(api, device, start="2026-01-01", figures="mean,p95")
    await fail_one(database)
    failed = await look(api, asked["id"])
    assert (failed["status"], failed["last_error"], failed["attempts"]) == ("failed", REASON, 1)
    answer = await api.post(f"{REQUESTS}/{asked['id']}/retry")
    assert answer.status_code == 202
    retried = answer.json()
    assert (retried["status"], retried["attempts"]) == ("queued", 0)
    assert (retried["finished_at"], retried["started_at"]) == (None, None)
    assert retried["created_at"] > failed["created_at"]
    assert retried["last_error"] == REASON
    kept = ("id", "device_id", "device_name", "start", "end", "figures")
    assert {name: retried[name] for name in kept} == {name: asked[name] for name in kept}
    async with services.worker(api_settings, QUICK):
        ended = await done(api, asked["id"])
    assert (ended["attempts"], ended["result"]["x"]["count"]) == (1, 0)


async def test_a_running_worker_is_notified(api: httpx.AsyncClient, device: int, api_settings: Settings) -> None:
    asked = await ask(api, device)
    await api.delete(f"{REQUESTS}/{asked['id']}")
    async with services.worker(api_settings, Tuning(poll_s=3600.0)):
        await done(api, (await ask(api, device))["id"])
        assert (await api.post(f"{REQUESTS}/{asked['id']}/retry")).status_code == 202
        assert (await done(api, asked["id"]))["status"] == "done"


async def test_requests_at_once_queue_it_once(api: httpx.AsyncClient, device: int, database: Database) -> None:
    asked = await ask(api, device)
    await fail_one(database)
    answers = await asyncio.gather(*(api.post(f"{REQUESTS}/{asked['id']}/retry") for _ in range(8)))
    assert sorted(answer.status_code for answer in answers) == [200] * 7 + [202]
    assert {answer.json()["id"] for answer in answers} == {asked["id"]}
    audited = await database.execute("SELECT subject FROM audit_log WHERE action = 'analysis.retried'")
    assert await audited.fetchall() == [(f"request {asked['id']}",)]
    held = await claim_one(database)
    assert held is not None
    assert await claim_one(database) is None
    running = await api.post(f"{REQUESTS}/{asked['id']}/retry")
    assert (running.status_code, running.json()["status"]) == (200, "running")


async def test_a_request_that_has_succeeded_is_not_retried(
    api: httpx.AsyncClient, device: int, api_settings: Settings
) -> None:
    asked = await ask(api, device)
    async with services.worker(api_settings, QUICK):
        before = await done(api, asked["id"])
    refused = await api.post(f"{REQUESTS}/{asked['id']}/retry")
    assert_problem(refused, 409)
    assert refused.json()["type"] == "/problems/already-done"
    assert f"request {asked['id']} is done" in refused.json()["detail"]
    assert await look(api, asked["id"]) == before


async def test_unknown_requests(api: httpx.AsyncClient, device: int) -> None:
    asked = await ask(api, device)
    await api.delete(f"{REQUESTS}/{asked['id']}")
    await api.delete(f"/devices/{device}")
    for number in (asked["id"], 0, -1, 2**63, 10**40):
        assert_problem(await api.post(f"{REQUESTS}/{number}/retry"), 404)
    assert_problem(await api.post(f"{REQUESTS}/x/retry"), 422)


async def test_an_equal_request_may_be_queued_already(
    api: httpx.AsyncClient, device: int, database: Database, api_settings: Settings
) -> None:
    first = await ask(api, device)
    await fail_one(database)
    second = await ask(api, device)
    assert second["id"] != first["id"]
    assert (await api.post(f"{REQUESTS}/{first['id']}/retry")).status_code == 202
    assert (await ask(api, device))["id"] == second["id"]
    async with services.worker(api_settings, QUICK):
        await done(api, first["id"])
        await done(api, second["id"])


async def test_callbacks_are_sent_for_each_end(api: httpx.AsyncClient, device: int, api_settings: Settings) -> None:
    async with receiving() as receiver:
        asked = await ask(api, device, callback=receiver.url)
        await api.delete(f"{REQUESTS}/{asked['id']}")
        async with services.worker(api_settings, QUICK):
            await eventually(lambda: look(api, asked["id"]), lambda seen: seen["callbacks"][0]["status"] == "delivered")
            retried = (await api.post(f"{REQUESTS}/{asked['id']}/retry")).json()
            assert (retried["callbacks"][0]["status"], retried["callbacks"][0]["attempts"]) == ("waiting", 0)
            await eventually(
                lambda: look(api, asked["id"]),
                lambda seen: (seen["status"], seen["callbacks"][0]["status"]) == ("done", "delivered"),
            )
    assert [json.loads(call.body)["status"] for call in receiver.calls] == ["cancelled", "done"]
    assert len({call.headers["webhook-id"] for call in receiver.calls}) == 2


async def test_a_call_in_progress_does_not_end_the_callback_of_the_retry(
    api: httpx.AsyncClient, device: int, database: Database
) -> None:
    asked = await ask(api, device, callback="http://127.0.0.1:1/hook")
    await api.delete(f"{REQUESTS}/{asked['id']}")
    (due,) = await callbacks.claim(database, 1)
    await api.post(f"{REQUESTS}/{asked['id']}/retry")
    await callbacks.delivered(database, due)
    assert await callbacks.fail(database, due, "it did not respond") is None
    assert await callbacks.claim(database, 1) == []
    assert (await look(api, asked["id"]))["callbacks"][0]["status"] == "waiting"
    await api.delete(f"{REQUESTS}/{asked['id']}")
    (again,) = await callbacks.claim(database, 1)
    assert (again.attempts, again.message_id != due.message_id) == (1, True)


async def test_a_schedule_gets_the_result_of_its_retried_tick(
    api: httpx.AsyncClient, device: int, database: Database, api_settings: Settings
) -> None:
    given = {"device_id": device, "cron": "0 2 * * *", "period": "P1D"}
    path = f"/stats/analysis/schedules/{(await api.post('/stats/analysis/schedules', json=given)).json()['id']}"
    await database.execute("UPDATE analysis_schedules SET next_tick = '2026-01-15T02:00Z'")
    assert await run_due_ticks(database) == 1
    await fail_one(database)
    seen = (await api.get(path)).json()
    assert seen["latest_status"] == "failed"
    (tick,) = (await api.get(f"{path}/ticks")).json()
    assert (tick["status"], tick["last_error"], tick["x"]) == ("failed", REASON, None)
    await api.post(f"{REQUESTS}/{seen['latest_request']}/retry")
    async with services.worker(api_settings, QUICK):
        await done(api, seen["latest_request"])
    (tick,) = (await api.get(f"{path}/ticks")).json()
    assert (tick["status"], tick["x"]["count"]) == ("done", 0)
    assert (await api.get(path)).json()["latest_status"] == "done"


@pytest.fixture
async def closed(api_settings: Settings, database: Database) -> AsyncIterator[httpx.AsyncClient]:
    """A client with the key of an analyst that may queue two analyses."""
    known = await keys(database)
    async with services.api(msgspec.structs.replace(api_settings, auth="on", queued_per_key=2)) as client:
        client.headers.update(bearer(known.admin))
        assert (await client.post("/devices", json={"name": "Boiler, north"})).status_code == 201
        client.headers.update(bearer(known.analyst))
        yield client


async def test_a_retry_counts_for_the_key_that_retries(closed: httpx.AsyncClient, database: Database) -> None:
    asked = [await ask(closed, 1, start=str(10**9 + number)) for number in range(2)]
    for one in asked:
        await closed.delete(f"{REQUESTS}/{one['id']}")
    await database.execute("UPDATE analysis_requests SET owner = NULL")
    assert (await closed.post(f"{REQUESTS}/{asked[0]['id']}/retry")).status_code == 202
    other = await ask(closed, 1, start="2026-01-01")
    refused = await closed.post(f"{REQUESTS}/{asked[1]['id']}/retry")
    assert_problem(refused, 429)
    assert "QUEUED_PER_KEY" in refused.json()["detail"]
    assert (await look(closed, asked[1]["id"]))["status"] == "cancelled"
    await closed.delete(f"{REQUESTS}/{other['id']}")
    assert (await closed.post(f"{REQUESTS}/{asked[1]['id']}/retry")).status_code == 202


async def test_requests_are_counted_by_status(api: httpx.AsyncClient, device: int, database: Database) -> None:
    nothing = {"queued": 0, "running": 0, "done": 0, "failed": 0, "cancelled": 0, "oldest_queued_at": None}
    assert (await api.get(f"{REQUESTS}/counts")).json() == nothing
    for number in range(6):
        await ask(api, device, start=str(10**9 + number))
    await fail_one(database)
    assert await claim_one(database) is not None
    queued = (await api.get(REQUESTS, params={"status": "queued"})).json()
    await api.delete(f"{REQUESTS}/{queued[0]['id']}")
    expected = {**nothing, "queued": 3, "running": 1, "failed": 1, "cancelled": 1}
    assert (await api.get(f"{REQUESTS}/counts")).json() == {**expected, "oldest_queued_at": queued[-1]["created_at"]}
    await database.execute(
        "UPDATE analysis_requests SET finished_at = finished_at - interval '2 days' WHERE status = 'failed'"
    )
    since = (datetime.now(UTC) - timedelta(days=1)).isoformat()
    recent = (await api.get(f"{REQUESTS}/counts", params={"start": since})).json()
    assert (recent["queued"], recent["failed"], recent["cancelled"]) == (3, 0, 1)
    before = (await api.get(f"{REQUESTS}/counts", params={"end": since})).json()
    assert (before["queued"], before["failed"], before["cancelled"]) == (3, 1, 0)
    assert_problem(await api.get(f"{REQUESTS}/counts", params={"start": "2026-02-01", "end": "2026-01-01"}), 400)
    await api.delete(f"/devices/{device}")
    assert (await api.get(f"{REQUESTS}/counts")).json() == nothing


async def test_a_retry_of_a_request_that_is_being_deleted(
    api: httpx.AsyncClient, device: int, database: Database, database_url: str
) -> None:
    asked = await ask(api, device)
    await fail_one(database)
    async with await connect(database_url, "cleaner") as cleaner:
        async with cleaner.transaction():
            await cleaner.execute("DELETE FROM analysis_requests")
            retrying = asyncio.create_task(api.post(f"{REQUESTS}/{asked['id']}/retry"))
            await eventually(lambda: locks.waiting(database), bool)
        assert_problem(await retrying, 404)
