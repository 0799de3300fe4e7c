"""Prefer: wait=N: the response has the result."""

import asyncio
import time

import httpx
import pytest

from query_api.analyses.prefer import MAX_WAIT_S
from query_api.queue import waiting
from query_api.queue.channels import ENDED
from query_api.serve.pools import QUICK
from query_api.worker.maintenance.removal import remove_all
from shared.settings import Settings
from tests import services
from tests.conftest import Database
from tests.waiting import HANG_S, eventually


async def ask(api: httpx.AsyncClient, device: int, wait: object, **parameters: str) -> httpx.Response:
    path = f"/stats/analysis/{device}/async"
    return await api.post(path, params=parameters, headers={"prefer": f"wait={wait}"})


async def waiting_requests(database: Database) -> int:
    return (await database.execute("SELECT 1 FROM analysis_requests WHERE status = 'queued'")).rowcount


async def test_the_response_has_the_result(api: httpx.AsyncClient, device: int, api_settings: Settings) -> None:
    await api.post("/stats", json={"device_id": device, "x": 1, "y": 2, "z": 3})
    async with services.worker(api_settings):
        answer = await ask(api, device, 30)
    assert answer.status_code == 200
    found = answer.json()
    assert (found["status"], found["result"]["x"]["sum"]) == ("done", 1)
    assert answer.headers["preference-applied"] == "wait=30"
    assert answer.headers["vary"] == "Prefer"
    assert answer.headers["location"] == f"/stats/analysis/requests/{found['id']}"


async def test_an_analysis_that_takes_longer_gets_a_202(api: httpx.AsyncClient, device: int) -> None:
    began = time.monotonic()
    answer = await ask(api, device, 1)
    assert time.monotonic() - began > 0.9
    assert (answer.status_code, answer.json()["status"]) == (202, "queued")
    assert answer.headers["preference-applied"] == "wait=1"
    for malformed in ("x", "-1", ""):
        at_once = await ask(api, device, malformed)
        assert (at_once.status_code, at_once.headers["vary"]) == (202, "Prefer")
        assert "preference-applied" not in at_once.headers
    assert (await ask(api, device, 0)).headers["preference-applied"] == "wait=0"


async def test_the_wait_is_limited(api: httpx.AsyncClient, device: int, database: Database) -> None:
    async with asyncio.TaskGroup() as tasks:
        asked = tasks.create_task(ask(api, device, 10**30))
        await eventually(lambda: waiting_requests(database), bool)
        (request,) = (await api.get("/stats/analysis/requests")).json()
        await api.delete(f"/stats/analysis/requests/{request['id']}")
    answer = asked.result()
    assert (answer.status_code, answer.headers["preference-applied"]) == (200, f"wait={MAX_WAIT_S}")


async def test_waiting_requests_use_no_connection(api: httpx.AsyncClient, device: int, database: Database) -> None:
    """More requests wait than the pool has connections. Others are served, and a cancellation ends a wait."""
    count = 4 * QUICK
    async with asyncio.TaskGroup() as tasks:
        asked = [tasks.create_task(ask(api, device, 30, start=f"2026-01-{n + 1:02}")) for n in range(count)]
        await eventually(lambda: waiting_requests(database), lambda seen: seen == count)
        listed = (await api.get("/stats/analysis/requests")).json()
        for request in listed:
            assert (await api.delete(f"/stats/analysis/requests/{request['id']}")).status_code == 200
    answers = [task.result() for task in asked]
    assert {(answer.status_code, answer.json()["status"]) for answer in answers} == {(200, "cancelled")}


async def test_the_device_is_deleted_during_the_wait(api: httpx.AsyncClient, device: int, database: Database) -> None:
    """The worker removes queued requests first."""
    began = time.monotonic()
    async with asyncio.TaskGroup() as tasks:
        asked = tasks.create_task(ask(api, device, MAX_WAIT_S))
        await eventually(lambda: waiting_requests(database), bool)
        assert (await api.delete(f"/devices/{device}")).status_code == 204
        await remove_all(database)
    assert asked.result().status_code == 202
    assert time.monotonic() - began < MAX_WAIT_S


async def test_a_disconnect_ends_the_wait(api: httpx.AsyncClient, device: int, monkeypatch: pytest.MonkeyPatch) -> None:
    ended = asyncio.Event()
    until_ended = waiting.Waits.until_ended

    async def noted(*given: object) -> object:
        try:
            return await until_ended(*given)  # type: ignore[arg-type]
        finally:
            ended.set()

    monkeypatch.setattr(waiting.Waits, "until_ended", noted)
    with pytest.raises(httpx.ReadTimeout):
        await api.post(f"/stats/analysis/{device}/async", headers={"prefer": "wait=50"}, timeout=0.3)
    async with asyncio.timeout(HANG_S):
        await ended.wait()


async def test_a_stop_of_the_service_ends_the_wait(api_settings: Settings, database: Database) -> None:
    await database.execute("INSERT INTO devices (key, name) VALUES ('d', 'd')")
    began = time.monotonic()
    async with services.client_of(api_settings.http_port) as client:
        async with asyncio.TaskGroup() as tasks, services.api(api_settings):
            asked = tasks.create_task(ask(client, 1, MAX_WAIT_S))
            await eventually(lambda: waiting_requests(database), bool)
            await eventually(lambda: heard(database), bool)
        assert asked.result().status_code == 202
    assert time.monotonic() - began < MAX_WAIT_S


async def heard(database: Database) -> bool:
    return (await database.execute("SELECT pg_notify(%s, 'nobody')", (ENDED,))).rowcount == 1
