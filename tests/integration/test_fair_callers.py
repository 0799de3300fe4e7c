"""The requests of one caller do not delay other callers.

The slow reads are held by a lock that the test owns: what is answered meanwhile did not wait for them.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

import httpx
import msgspec
import pytest

from query_api.readings.waiting import WaitingBounds
from query_api.readings.write_batcher import WRITERS
from query_api.serve.tuning import DEFAULT, Tuning
from query_api.web.requests.bodies import MAX_BODY_BYTES, ROOM_BYTES, ROOM_EACH_BYTES
from shared.access.credentials import Role
from shared.settings import Settings
from tests import locks, services
from tests.conftest import Database
from tests.credentials import bearer, key
from tests.waiting import HANG_S, eventually

LOCK = 4711
# Reads of readings of device 1 wait for the lock.
HOLD = """
    CREATE FUNCTION held() RETURNS boolean LANGUAGE plpgsql AS
        $$ BEGIN PERFORM pg_advisory_xact_lock_shared(4711); RETURN true; END $$;
    ALTER TABLE readings ENABLE ROW LEVEL SECURITY;
    CREATE POLICY held ON readings USING (CASE WHEN device_id = 1 THEN held() ELSE true END);
"""
EACH = 20_000
"""Readings of a caller that may wait."""
IN_FLIGHT = DEFAULT.slow_reads.each + DEFAULT.slow_reads.waiting_each


@pytest.fixture
async def api(api_settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    """An API with AUTH on, whose waits are as long as the test."""
    settings = msgspec.structs.replace(api_settings, auth="on", query_timeout=int(HANG_S))
    tuning = Tuning(pool_wait_s=HANG_S, store_wait_s=HANG_S, waiting=WaitingBounds(most_each=EACH))
    async with services.api(settings, tuning) as api:
        yield api


async def register(api: httpx.AsyncClient, admin: dict[str, str], name: str) -> dict[str, str]:
    """A device with one reading; its token, as a header."""
    device = (await api.post("/devices", json={"name": name}, headers=admin)).json()
    token = bearer(device["token"])
    stored = await api.post("/stats", json={"device_id": device["id"], "x": 1, "y": 2, "z": 3}, headers=token)
    assert stored.status_code == 201
    return token


@asynccontextmanager
async def held(database: Database) -> AsyncIterator[None]:
    await database.execute(HOLD)
    await database.execute("SELECT pg_advisory_lock(%s)", (LOCK,))
    try:
        yield
    finally:
        await database.execute("SELECT pg_advisory_unlock(%s)", (LOCK,))


async def figure(api: httpx.AsyncClient, admin: dict[str, str], name: str) -> float:
    lines = (await api.get("/metrics", headers=admin)).text.splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith(name))


@pytest.mark.plain_only("a policy does not hold reads on the nodes")
async def test_slow_reads_of_one_key_do_not_delay_others(api: httpx.AsyncClient, database: Database) -> None:
    admin, analyst, other = [bearer(await key(database, role)) for role in (Role.ADMIN, Role.ANALYST, Role.ANALYST)]
    await register(api, admin, "busy")
    token = await register(api, admin, "quiet")
    paths = ("/stats/analysis/1", "/stats/1/buckets", "/stats/1/series", "/stats/1")
    async with asyncio.TaskGroup() as tasks, held(database):
        slow = [tasks.create_task(api.get(paths[n % 4], headers=analyst)) for n in range(IN_FLIGHT)]
        await eventually(
            lambda: figure(api, admin, "devicestat_http_slow_waiting{"),
            lambda count: count == DEFAULT.slow_reads.waiting_each,
        )
        assert await figure(api, admin, "devicestat_http_slow_running{") == DEFAULT.slow_reads.each
        refused = await api.get("/stats/analysis/1", headers=analyst)
        assert (refused.status_code, refused.json()["type"]) == (429, "/problems/too-many-requests")
        assert int(refused.headers["retry-after"]) > 0
        for headers in (analyst, other):
            assert (await api.get("/stats/2/latest", headers=headers)).status_code == 200
            assert (await api.get("/devices/2", headers=headers)).status_code == 200
        for path in ("/stats/analysis/2", "/stats/2", "/stats/2/series", "/devices?search=quiet"):
            assert (await api.get(path, headers=other)).status_code == 200, path
        stored = await api.post("/stats", json={"device_id": 2, "x": 1, "y": 2, "z": 3}, headers=token)
        assert stored.status_code == 201
        assert (await api.get("/health/ready", headers=admin)).status_code == 200
        assert not any(one.done() for one in slow)
    assert {one.result().status_code for one in slow} == {200}
    assert await figure(api, admin, 'devicestat_http_slow_refused_total{bound="caller"') == 1


@pytest.mark.plain_only("a policy does not hold reads on the nodes")
async def test_streams_of_one_key_do_not_delay_others(api: httpx.AsyncClient, database: Database) -> None:
    admin, analyst = [bearer(await key(database, role)) for role in (Role.ADMIN, Role.ANALYST)]
    await register(api, admin, "busy")
    await register(api, admin, "quiet")
    csv = {"accept": "text/csv"}
    async with asyncio.TaskGroup() as tasks, held(database):
        streams = [
            tasks.create_task(api.get("/stats/1", headers=analyst | csv))
            for _ in range(DEFAULT.streams.each + DEFAULT.streams.waiting_each)
        ]
        waiting = 'devicestat_http_slow_waiting{work="streams"}'
        await eventually(lambda: figure(api, admin, waiting), lambda count: count == DEFAULT.streams.waiting_each)
        refused = await api.get("/stats/1", headers=analyst | csv)
        assert refused.status_code == 429
        assert (await api.get("/stats/2", headers=admin | csv)).status_code == 200
        assert not any(one.done() for one in streams)
    assert {one.result().status_code for one in streams} == {200}


async def test_readings_of_one_key_do_not_delay_other_devices(api: httpx.AsyncClient, database: Database) -> None:
    admin, writer = [bearer(await key(database, role)) for role in (Role.ADMIN, Role.WRITER)]
    await register(api, admin, "busy")
    token = await register(api, admin, "quiet")
    many = json.dumps([{"device_id": 1, "x": 1, "y": 2, "z": 3}] * 10_000).encode()
    typed = writer | {"content-type": "application/json"}
    waiting = partial(figure, api, admin, "devicestat_http_readings_waiting ")
    async with asyncio.TaskGroup() as tasks, database.transaction():
        await database.execute("LOCK TABLE devices IN ACCESS EXCLUSIVE MODE")

        def post() -> "asyncio.Task[httpx.Response]":
            return tasks.create_task(api.post("/stats", content=many, headers=typed))

        posts = []
        for number in range(WRITERS):
            posts.append(post())
            await eventually(
                lambda: locks.waiting(database, "devices"), lambda seen, number=number: len(seen) == number + 1
            )  # type: ignore[misc]
        posts += [post() for _ in range(EACH // 10_000)]
        await eventually(waiting, lambda count: count == EACH)
        refused = [await post() for _ in range(10)]
        reading = {"device_id": 2, "x": 1, "y": 2, "z": 3}
        quiet = tasks.create_task(api.post("/stats", json=reading, headers=token))
        await eventually(waiting, lambda count: count == EACH + 1)
    assert quiet.result().status_code == 201
    assert {post.result().status_code for post in posts} == {201}
    assert {(answer.status_code, answer.headers["retry-after"]) for answer in refused} == {(429, "1")}


async def test_announced_long_bodies_of_one_key_leave_room_for_other_keys(
    api: httpx.AsyncClient, database: Database
) -> None:
    admin, writer = [bearer(await key(database, role)) for role in (Role.ADMIN, Role.WRITER)]
    token = await register(api, admin, "quiet")
    fit = ROOM_EACH_BYTES // MAX_BODY_BYTES
    async with AsyncExitStack() as stack:
        greedy = [await stack.enter_async_context(announced(api, writer)) for _ in range(ROOM_BYTES // MAX_BODY_BYTES)]
        refused = [asyncio.create_task(one.readuntil(b"\r\n")) for one in greedy]
        await eventually(lambda: ended(refused), lambda count: count == len(greedy) - fit)
        assert {one.result().split()[1] for one in refused if one.done()} == {b"429"}
        many = [{"device_id": 1, "x": 1, "y": 2, "z": 3}] * 3000
        assert (await api.post("/stats", json=many, headers=token)).status_code == 201
        for one in refused:
            one.cancel()


@asynccontextmanager
async def announced(api: httpx.AsyncClient, headers: dict[str, str]) -> AsyncIterator[asyncio.StreamReader]:
    """The response to a request whose body is announced and not sent."""
    reader, writer = await asyncio.open_connection(api.base_url.host, api.base_url.port)
    shown = {"Host": "localhost", "Content-Type": "application/json", "Content-Length": str(MAX_BODY_BYTES), **headers}
    lines = ["POST /stats HTTP/1.1", *(f"{name}: {value}" for name, value in shown.items()), "", "["]
    try:
        writer.write("\r\n".join(lines).encode())
        yield reader
    finally:
        writer.close()


async def ended(tasks: "list[asyncio.Task[bytes]]") -> int:
    return sum(task.done() for task in tasks)
