"""Sharing of the queue: equal requests are joined, devices take turns, and deletions do not interfere."""

import asyncio
import itertools
import json
from collections.abc import Sequence
from typing import Any

import httpx
import pytest

from query_api.ids import MAX_ID
from query_api.queue import claims as queue
from query_api.queue import requests as analysis_requests
from query_api.queue.claiming import _OF_PEOPLE, _OF_SCHEDULES, _WAKE, Turns, wake
from query_api.queue.claims import Claim
from query_api.worker.tuning import Tuning
from shared.postgres.connections import connect
from shared.settings import Settings
from tests import citus, services
from tests.claiming import claim_one
from tests.conftest import Database
from tests.waiting import eventually

REQUESTS = "/stats/analysis/requests"
LOCKED = "retiring_months" if citus.WORKERS else "readings"
"""The table that a snapshot locks."""


async def add_devices(database: Database, count: int) -> list[int]:
    cursor = await database.execute(
        "INSERT INTO devices (key, name) SELECT 'd' || n, 'd' FROM generate_series(1, %s) n RETURNING id", (count,)
    )
    return [row[0] for row in await cursor.fetchall()]


async def add_requests(database: Database, device: int, count: int) -> None:
    await database.execute(
        "INSERT INTO analysis_requests (device_id, period) SELECT %s, '[,]' FROM generate_series(1, %s)",
        (device, count),
    )


async def ask(api: httpx.AsyncClient, device: int, **parameters: object) -> dict[str, Any]:
    answer = await api.post(f"/stats/analysis/{device}/async", params=parameters)  # type: ignore[arg-type]
    assert answer.status_code == 202, answer.text
    found: dict[str, Any] = answer.json()
    assert answer.headers["location"] == f"{REQUESTS}/{found['id']}"
    return found


# Folding.


async def test_equal_queued_requests_are_joined(api: httpx.AsyncClient, device: int, database: Database) -> None:
    first = await ask(api, device, start="2026-01-01", figures="p95,mean")
    again = await ask(api, device, start="2026-01-01T00:00:00Z", figures="mean,p95.0")
    assert again == first
    assert (first["figures"], first["retry_at"], first["callbacks"]) == (["mean", "p95"], None, [])
    others = [
        await ask(api, device, start="2026-01-01"),
        await ask(api, device, start="2026-01-02", figures="mean,p95"),
        await ask(api, device, end="2026-01-01", figures="mean,p95"),
    ]
    assert len({first["id"], *(other["id"] for other in others)}) == 4

    held = await claim_one(database)
    assert held is not None
    assert held.id == first["id"]
    assert (await ask(api, device, start="2026-01-01", figures="mean,p95"))["id"] > first["id"]


async def test_a_request_that_is_queued_again_does_not_conflict(
    api: httpx.AsyncClient, device: int, database: Database
) -> None:
    """An equal request was queued while it ran, so both are queued now."""
    begun: list[Claim] = []
    for _ in range(3):
        await ask(api, device)
        held = await claim_one(database)
        assert held is not None
        begun.append(held)
    waiting = await ask(api, device)
    given_back, failed, lost = begun
    await queue.give_back(database, [given_back.token])
    assert await queue.fail(database, failed, "broken") == "queued"
    await database.execute(
        "UPDATE analysis_requests SET lease_until = now() - interval '1 s' WHERE id = %s", (lost.id,)
    )
    assert await queue.reap(database) == {lost.id: "queued"}
    assert await ask(api, device) == waiting
    assert (await api.delete(f"{REQUESTS}/{waiting['id']}")).status_code == 200
    assert (await ask(api, device))["id"] > waiting["id"]


async def test_joining_in_several_processes(
    api_settings: Settings, database_url: str, database: Database, device: int, api: httpx.AsyncClient
) -> None:
    """Many clients queue equal requests over separate connections, while a worker claims continuously."""
    period = analysis_requests.Period(None, None)

    async def ask_often() -> list[int]:
        async with await connect(database_url, "asker") as connection:
            return [(await analysis_requests.enqueue(connection, device, period)).id for _ in range(30)]

    async def claim_all(until: asyncio.Event) -> list[int]:
        """Claim until nothing is left that was asked for before `until`: the look at it comes before the claim."""
        claimed, last = [], False
        async with await connect(database_url, "claimer") as connection:
            while not last:
                ended = until.is_set()
                held = await claim_one(connection)
                claimed += [held.id] if held else []
                last = ended and held is None
        return claimed

    async with asyncio.TaskGroup() as tasks:
        done = asyncio.Event()
        claiming = [tasks.create_task(claim_all(done)) for _ in range(2)]
        asked = await asyncio.gather(*(ask_often() for _ in range(4)))
        done.set()
    claimed = sorted(itertools.chain(*(task.result() for task in claiming)))
    assert claimed == sorted(set(itertools.chain(*asked)))
    cursor = await database.execute("SELECT id FROM analysis_requests ORDER BY id")
    assert claimed == [row[0] for row in await cursor.fetchall()]


# Turns.


async def claim_devices(database: Database, after: int = 0) -> list[int]:
    """Return the devices of consecutive claims of one worker, while no analysis ends."""
    turns, taken = Turns(after), []
    while held := await turns.claim(database, 1):
        taken.append(held[0].device_id)
    return taken


async def test_devices_take_turns(database: Database) -> None:
    a, b, c = await add_devices(database, 3)
    for device, count in ((a, 4), (b, 2), (c, 1)):
        await add_requests(database, device, count)
    assert await claim_devices(database, after=a) == [b, c, a, b, a, a, a]


async def test_a_device_has_at_most_its_share_running(database: Database) -> None:
    a, b = await add_devices(database, 2)
    await add_requests(database, a, 6)
    assert [(await claim(database)).device_id for _ in range(3)] == [a, a, a]
    await add_requests(database, b, 4)
    # While nothing ends: first those of b, up to what a has; then one each in turn.
    assert await claim_devices(database, after=a) == [b, b, b, a, b, a, a]


async def claim(database: Database) -> Claim:
    held = await claim_one(database)
    assert held is not None
    return held


async def test_a_long_backlog_does_not_delay_other_devices(database: Database, api_settings: Settings) -> None:
    a, *others = await add_devices(database, 5)
    await add_requests(database, a, 1000)
    for device in others:
        await add_requests(database, device, 10)

    async def ended() -> int:
        cursor = await database.execute("SELECT count(*) FROM analysis_results WHERE device_id <> %s", (a,))
        row = await cursor.fetchone()
        assert row is not None
        return int(row[0])

    async with services.worker(api_settings), services.worker(api_settings), services.worker(api_settings):
        await eventually(ended, lambda count: count == 40)
        cursor = await database.execute(
            "SELECT count(*) FILTER (WHERE device_id = %s) FROM analysis_requests WHERE finished_at <="
            " (SELECT max(finished_at) FROM analysis_requests WHERE device_id <> %s)",
            (a, a),
        )
        row = await cursor.fetchone()
        assert row is not None
        assert row[0] < 40
        await database.execute("DELETE FROM analysis_requests WHERE status = 'queued'")


async def plan(database: Database, statement: str | bytes, parameters: dict[str, Any]) -> dict[str, Any]:
    text = statement.encode() if isinstance(statement, str) else statement
    explain = b"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) " + text
    (found,) = await (await database.execute(explain, parameters)).fetchone() or (None,)
    assert found is not None
    root: dict[str, Any] = found[0]["Plan"]
    return root


BACKLOG = """
    WITH owner AS (INSERT INTO devices (key, name) SELECT 'k' || n, 'n' FROM generate_series(1, 1000) n RETURNING id)
    INSERT INTO analysis_requests (device_id, period, status, finished_at, by_schedule)
    SELECT id, '[,]', CASE WHEN n % 3 = 0 THEN 'queued' WHEN id % 200 = 0 THEN 'failed' ELSE 'done' END,
           CASE WHEN n % 3 > 0 THEN now() END, n % 2 = 0
    FROM owner, generate_series(1, 20) n
"""


async def test_no_backlog_makes_claiming_or_listing_slow(database: Database) -> None:
    await database.execute(BACKLOG)
    (a,) = (await (await database.execute("SELECT min(id) FROM devices")).fetchone()) or (0,)
    await add_requests(database, a, 10_000)
    await database.execute("VACUUM ANALYZE analysis_requests")
    assert [(await claim(database)).device_id for _ in range(3)] != [a, a, a]
    lists: Sequence[tuple[str, int | None, str | None, int, str]] = (
        (analysis_requests._LIST, None, None, MAX_ID, "analysis_requests_pkey"),
        (analysis_requests._LIST_STATUS, None, "failed", 9_000, "analysis_requests_by_status"),
        (analysis_requests._LIST_DEVICE, a + 7, None, MAX_ID, "analysis_requests_by_device"),
        (analysis_requests._LIST_BOTH, 200, "failed", MAX_ID, "analysis_requests_by_device"),
    )
    seen = []
    for statement, device_id, status, before, index in lists:
        values = {"device_id": device_id, "status": status, "before": before, "limit": 11}
        seen.append((await plan(database, statement, values), index))
    claiming = {"after": a - 1, "lease": queue.LEASE, "limit": 1, "spare": 17, "fresh": False}
    seen.append((await plan(database, _OF_PEOPLE, claiming), "analysis_requests_of_people"))
    seen.append((await plan(database, _OF_SCHEDULES, claiming), "analysis_requests_of_schedules"))
    seen.append((await plan(database, queue._REAP, {"max_attempts": 5}), "Index Scan"))
    seen.append((await plan(database, _WAKE, {}), "analysis_requests_put_off"))
    for found, index in seen:
        assert index in json.dumps(found)
        assert found["Shared Hit Blocks"] + found["Shared Read Blocks"] < 400, (index, found["Shared Hit Blocks"])


# Lists, results, cancelling.


async def test_the_list_is_paged_and_filtered(api: httpx.AsyncClient, device: int, database: Database) -> None:
    other = (await api.post("/devices", json={"name": "other"})).json()["id"]
    asked = [await ask(api, owner, start=str(10**9 + n)) for n in range(4) for owner in (device, other)]
    cancelled = (await api.delete(f"{REQUESTS}/{asked[0]['id']}")).json()
    everything = (await api.get(REQUESTS)).json()
    assert everything == [*reversed(asked[1:]), cancelled]
    paged, answer = [], await api.get(REQUESTS, params={"limit": 3, "device_id": device})
    paged += answer.json()
    while "next" in answer.links:
        answer = await api.get(answer.links["next"]["url"])
        paged += answer.json()
    assert paged == [shown for shown in everything if shown["device_id"] == device]
    assert (await api.get(REQUESTS, params={"status": "cancelled"})).json() == [cancelled]
    assert (await api.get(REQUESTS, params={"status": "queued", "device_id": other, "limit": 1})).json() == [asked[-1]]
    for nobody in (0, -1, 999, 2**63, 10**40):
        assert (await api.get(REQUESTS, params={"device_id": nobody})).json() == []
    assert (await api.get(REQUESTS, params={"status": "lost"})).status_code == 422
    cursor = (await api.get(REQUESTS, params={"limit": 1})).headers["x-next-cursor"]
    assert (await api.get(REQUESTS, params={"cursor": cursor, "status": "done"})).status_code == 400


async def test_a_result_is_returned_with_its_request_and_deleted(
    api: httpx.AsyncClient, device: int, api_settings: Settings
) -> None:
    await api.post("/stats", json={"device_id": device, "x": 1, "y": 2, "z": 3})
    queued = await ask(api, device, figures="mean")
    async with services.worker(api_settings):
        shown = await eventually(lambda: look(api, queued["id"]), lambda seen: seen["status"] == "done")
    (result,) = (await api.get(f"/stats/analysis/result/{device}")).json()
    assert shown["result"] == result
    assert result["x"]["mean"] == 1
    path = f"/stats/analysis/result/{device}/{result['id']}"
    assert (await api.get(path)).json() == result
    for wrong in (
        f"/stats/analysis/result/{device + 1}/{result['id']}",
        f"{path}0",
        f"/stats/analysis/result/{2**63}/1",
    ):
        assert (await api.get(wrong)).status_code == 404
        assert (await api.delete(wrong)).status_code == 404
    assert (await api.delete(path)).status_code == 204
    assert (await api.delete(path)).status_code == 404
    assert await look(api, queued["id"]) == {**shown, "result": None}


async def look(api: httpx.AsyncClient, number: int) -> dict[str, Any]:
    answer = await api.get(f"{REQUESTS}/{number}")
    return dict(answer.json())


async def test_cancelling_stops_the_query_before_any_renewal(
    api: httpx.AsyncClient,
    device: int,
    api_settings: Settings,
    database_url: str,
    database: Database,
) -> None:
    computing = """
        SELECT FROM pg_stat_activity
        WHERE datname = current_database() AND query LIKE '%READ ONLY%LOCK TABLE%' AND wait_event_type = 'Lock'
    """

    async def is_computing() -> bool:
        return (await database.execute(computing)).rowcount > 0

    queued = await ask(api, device)
    seldom = Tuning(renew_s=3600.0)
    async with services.worker(api_settings, seldom), await connect(database_url, "lock") as lock, lock.transaction():
        await lock.execute(f"LOCK TABLE {LOCKED} IN ACCESS EXCLUSIVE MODE".encode())
        await eventually(is_computing, bool)
        assert (await api.delete(f"{REQUESTS}/{queued['id']}")).json()["status"] == "cancelled"
        await eventually(is_computing, lambda computes: not computes)


async def test_a_failure_is_returned_with_its_next_attempt(
    api: httpx.AsyncClient, device: int, database: Database
) -> None:
    queued = await ask(api, device)
    held = await claim(database)
    await queue.fail(database, held, "out of memory")
    shown = await look(api, queued["id"])
    assert (shown["status"], shown["last_error"], shown["attempts"]) == ("queued", "out of memory", 1)
    assert shown["retry_at"] > shown["started_at"]
    await database.execute("UPDATE analysis_requests SET run_after = now()")
    await wake(database)
    assert (await look(api, queued["id"]))["retry_at"] is None


# Deletion of a device.


@pytest.mark.parametrize("turns", [15])
async def test_devices_are_deleted_under_load(
    api: httpx.AsyncClient, database: Database, api_settings: Settings, turns: int
) -> None:
    """Requests are queued, run and end while devices are deleted. No response is a 500, and the worker continues."""
    statuses: set[int] = set()

    async def go_and_come(number: int) -> None:
        device = (await api.post("/devices", json={"name": f"d{number}"})).json()["id"]

        async def asking() -> None:
            for start in range(8):
                answer = await api.post(f"/stats/analysis/{device}/async", params={"start": 10**9 + start % 4})
                statuses.add(answer.status_code)

        async def deleting() -> None:
            statuses.add((await api.delete(f"/devices/{device}")).status_code)

        await asyncio.gather(asking(), deleting(), asking())

    async with services.worker(api_settings) as working:
        for number in range(turns):
            await go_and_come(number)
        assert not working.done()

        async def left() -> int:
            return (await database.execute("SELECT 1 FROM analysis_requests")).rowcount

        assert statuses == {202, 204, 404}
        await eventually(left, lambda count: count == 0)
