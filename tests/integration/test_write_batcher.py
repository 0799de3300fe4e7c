"""Readings of several requests that are stored together, and errors of one and of all."""

import asyncio
from collections.abc import Iterable, Sequence, Set
from typing import Any

import httpx
import pytest
from psycopg.errors import DeadlockDetected

from query_api.readings import write_batcher
from query_api.serve.pools import SLOW
from query_api.serve.tuning import DEFAULT, Tuning
from shared.postgres.connections import Connection
from shared.readings.model import Reading
from shared.readings.partitions import Partitions
from shared.readings.store import store_requests
from tests import locks, services
from tests.conftest import Database
from tests.waiting import eventually

NOON = "2026-01-31T12:00:00Z"


def reading(device: int, **others: object) -> dict[str, object]:
    return {"device_id": device, "x": 1, "y": 2, "z": 3, **others}


async def together(api: httpx.AsyncClient, database: Database, *bodies: object) -> list[httpx.Response]:
    """Post the readings while storing is blocked, so that one statement stores most of them."""
    async with asyncio.TaskGroup() as tasks, database.transaction():
        await database.execute("LOCK TABLE devices IN ACCESS EXCLUSIVE MODE")
        posts = [tasks.create_task(api.post("/stats", json=body)) for body in bodies]
        await eventually(lambda: locks.waiting(database), lambda seen: len(seen) == write_batcher.WRITERS)
    return [post.result() for post in posts]


async def test_each_request_is_stored_whole_or_not_at_all_in_any_batch(
    api: httpx.AsyncClient, device: int, database: Database
) -> None:
    good = [[reading(device, x=n), reading(device, x=n, y=n)] for n in range(10)]
    bad = [[reading(device, x=n), reading(777)] for n in range(10)]
    answers = await together(api, database, *good, *bad)
    assert [answer.status_code for answer in answers] == [201] * 10 + [400] * 10
    assert answers[-1].json()["errors"][0]["field"] == "[1].device_id"
    stored = (await api.get(f"/stats/{device}")).json()
    assert len(stored) == 20
    answered = {row["id"]: row for answer in answers[:10] for row in answer.json()}
    assert {row["id"]: row for row in stored} == answered


async def test_of_equal_readings_in_several_requests_one_is_new(
    api: httpx.AsyncClient, device: int, database: Database
) -> None:
    answers = await together(api, database, *[reading(device, timestamp=NOON)] * 20)
    assert sorted(answer.status_code for answer in answers) == [200] * 19 + [201]
    assert len({answer.json()["id"] for answer in answers}) == 1


async def test_no_request_waits_for_others_while_the_database_is_down(
    api: httpx.AsyncClient, device: int, postgres_server: str, database_url: str
) -> None:
    async with services.database_away(postgres_server, database_url):
        began = asyncio.get_running_loop().time()
        answers = await asyncio.gather(*(api.post("/stats", json=[reading(device)] * 1_500) for _ in range(12)))
        took_s = asyncio.get_running_loop().time() - began
    assert {answer.status_code for answer in answers} == {503}
    assert took_s < 10


@pytest.mark.serve(Tuning(store_wait_s=0.3))
async def test_a_request_that_is_not_stored_in_time_gets_a_503(
    api: httpx.AsyncClient, device: int, database: Database
) -> None:
    async with database.transaction():
        await database.execute("LOCK TABLE devices IN ACCESS EXCLUSIVE MODE")
        answer = await api.post("/stats", json=reading(device, timestamp=NOON))
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    assert "0.3 seconds" in answer.json()["detail"]

    async def stored() -> int:
        return (await api.post("/stats", json=reading(device, timestamp=NOON))).status_code

    assert await eventually(stored, lambda status: status != 503) in {200, 201}


async def test_a_deadlock_with_an_ingestor_is_retried(
    api: httpx.AsyncClient, device: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures = 2

    async def unlucky(connection: Connection, requests: Sequence[Any]) -> object:
        nonlocal failures
        if failures:
            failures -= 1
            raise DeadlockDetected
        return await store_requests(connection, requests)

    monkeypatch.setattr(write_batcher, "store_requests", unlucky)
    assert (await api.post("/stats", json=reading(device))).status_code == 201
    assert failures == 0


async def test_a_reading_received_before_its_device_was_registered_is_not_hidden(
    api: httpx.AsyncClient, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The device did not exist when extents were widened, and existed when the reading was stored."""
    ensure, ensured = Partitions.ensure, 0

    async def registered_after(self: Partitions, connection: Connection, readings: Iterable[Reading]) -> Set[int]:
        nonlocal ensured
        absent = await ensure(self, connection, readings)
        if not ensured:
            await database.execute("INSERT INTO devices (id, key, name) VALUES (7, '7', 'n')")
        ensured += 1
        return absent

    monkeypatch.setattr(Partitions, "ensure", registered_after)
    bodies = [reading(7, timestamp="2024-01-15T00:00:00Z"), reading(7)]
    answers = [await api.post("/stats", json=body) for body in bodies]
    assert [answer.status_code for answer in answers] == [400, 201]
    assert [row["id"] for row in (await api.get("/stats/7")).json()] == [answers[1].json()["id"]]
    assert (await database.execute("SELECT FROM readings")).rowcount == 1


async def test_a_month_that_is_being_dropped_accepts_no_reading(
    api: httpx.AsyncClient, device: int, database: Database
) -> None:
    """As between DETACH and DROP, which may wait for a reader of the month."""
    old = reading(device, timestamp="2020-01-15T00:00:00Z")
    assert (await api.post("/stats", json=old)).status_code == 201
    await database.execute("ALTER TABLE readings DETACH PARTITION readings_2020_01")
    bodies = [{**old, "x": 5}, reading(device)]
    answers = await asyncio.gather(*(api.post("/stats", json=body) for body in bodies))
    assert [answer.status_code for answer in answers] == [503, 201]
    assert "RETENTION" in answers[0].json()["detail"]
    await database.execute("DROP TABLE readings_2020_01")
    assert (await api.post("/stats", json={**old, "x": 5})).status_code == 201


async def test_readings_are_stored_under_any_load_of_reads(
    api: httpx.AsyncClient, device: int, database: Database
) -> None:
    async with asyncio.TaskGroup() as tasks, database.transaction():
        await database.execute("LOCK TABLE analysis_results IN ACCESS EXCLUSIVE MODE")
        reads = [tasks.create_task(api.get(f"/stats/analysis/result/{device}")) for _ in range(SLOW)]
        await eventually(lambda: locks.waiting(database), lambda seen: len(seen) == DEFAULT.slow_reads.each)
        assert (await api.post("/stats", json=reading(device))).status_code == 201
    assert all(read.result().status_code in {200, 503} for read in reads)
