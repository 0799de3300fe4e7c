"""Turns in the queue: people and schedules take turns, and the devices of each."""

import asyncio
import itertools
import random
from collections import Counter
from collections.abc import Sequence
from typing import Any

import httpx
import msgspec
import pytest

from query_api.calendar.period import Period
from query_api.queue.claiming import _OF_PEOPLE, _OF_SCHEDULES, Turns
from query_api.queue.claims import LEASE, Claim
from query_api.queue.requests import Wanted, enqueue_all
from query_api.worker.ticks import run_due_ticks
from shared.postgres.connections import RETRYABLE, Connection, connect
from tests.conftest import Database

ALL_TIME = Period(None, None)


async def add_devices(database: Database, count: int) -> None:
    """Add devices, with ids from 1."""
    await database.execute(
        "INSERT INTO devices (key, name) SELECT 'd' || n, 'd' FROM generate_series(1, %s) n", (count,)
    )


async def ask(database: Database, device: int, count: int = 1, *, by_schedule: bool = False) -> None:
    await database.execute(
        "INSERT INTO analysis_requests (device_id, period, by_schedule) SELECT %s, '[,]', %s"
        " FROM generate_series(1, %s)",
        (device, by_schedule, count),
    )


async def devices_of(turns: Turns, database: Database, *limits: int) -> list[list[int]]:
    """Return the devices of claims of the given sizes."""
    return [[held.device_id for held in await turns.claim(database, limit)] for limit in limits]


async def test_a_person_waits_for_one_request_of_a_schedule(database: Database) -> None:
    await add_devices(database, 60)
    for device in range(1, 51):
        await ask(database, device, by_schedule=True)
    turns = Turns()
    assert await devices_of(turns, database, 1, 1) == [[1], [2]]
    for device in (53, 52, 51):
        await ask(database, device)
    assert await devices_of(turns, database, 1, 1, 1, 1, 1, 1, 1) == [[51], [3], [52], [4], [53], [5], [6]]


async def test_a_schedule_waits_for_one_request_of_a_person(database: Database) -> None:
    await add_devices(database, 60)
    for device in range(1, 51):
        await ask(database, device, 3)
    turns = Turns()
    assert await devices_of(turns, database, 2) == [[1, 2]]
    await ask(database, 60, by_schedule=True)
    assert await devices_of(turns, database, 1, 3) == [[60], [3, 4, 5]]


async def test_people_and_schedules_take_turns_within_a_claim(database: Database) -> None:
    await add_devices(database, 20)
    for device in range(1, 11):
        await ask(database, device, by_schedule=True)
        await ask(database, 10 + device)
    turns = Turns()
    assert await devices_of(turns, database, 3, 4) == [[11, 1, 12], [2, 13, 3, 14]]
    assert await devices_of(turns, database, 100) == [[4, 15, 5, 16, 6, 17, 7, 18, 8, 19, 9, 20, 10]]


async def test_every_place_is_used_if_one_class_has_few_requests(database: Database) -> None:
    await add_devices(database, 2)
    await ask(database, 1, 10)
    await ask(database, 2, 1, by_schedule=True)
    assert await devices_of(Turns(), database, 8, 8) == [[1, 2, 1, 1, 1, 1, 1, 1], [1, 1, 1]]


class _Broken:
    """The round of a class, whose connection breaks."""

    async def claim(self, connection: Connection, *_: object, **__: object) -> list[Claim]:
        await connection.close()
        await connection.execute("SELECT")
        return []


@pytest.mark.parametrize("people", [0, 1, 2])
async def test_claims_are_not_lost_if_the_connection_breaks_before_the_next_statement(
    database_url: str, database: Database, monkeypatch: pytest.MonkeyPatch, people: int
) -> None:
    await add_devices(database, 1)
    await ask(database, 1, people)
    turns = Turns()
    monkeypatch.setattr(turns, "_schedules", _Broken())
    async with await connect(database_url, "claimer") as connection:
        if people:
            assert len(await turns.claim(connection, 3)) == people
        else:
            with pytest.raises(RETRYABLE):
                await turns.claim(connection, 3)


class _Device(msgspec.Struct):
    """A device of the model: the number of its running requests, and the ids of queued ones of each class."""

    running: int
    people: list[int]
    schedules: list[int]


def _expected(devices: dict[int, _Device], kind: str, after: int, limit: int) -> list[tuple[int, int]]:
    """Return device and request of each claim of a class: a device with fewer running and earlier requests is first."""
    order = [
        (device.running + number, key <= after, key, request)
        for key, device in devices.items()
        for number, request in enumerate(getattr(device, kind))
    ]
    chosen = [(key, request) for *_, key, request in sorted(order)[:limit]]
    for key, request in chosen:
        getattr(devices[key], kind).remove(request)
        devices[key].running += 1
    return chosen


class _Model:
    """The turns of a worker, one class after another in Python."""

    def __init__(self, devices: dict[int, _Device]) -> None:
        self._devices = devices
        self._after = {"people": 0, "schedules": 0}

    def claim(self, limit: int, first: str) -> dict[str, list[int]]:
        share = (limit + (first == "people")) // 2
        people = self._class("people", share)
        schedules = self._class("schedules", limit - len(people))
        people += self._class("people", limit - len(people) - len(schedules))
        return {"people": people, "schedules": schedules}

    def _class(self, kind: str, limit: int) -> list[int]:
        chosen = _expected(self._devices, kind, self._after[kind], limit)
        self._after[kind] = chosen[-1][0] if chosen else self._after[kind]
        return [request for _, request in chosen]


_FILL = """
    INSERT INTO analysis_requests (device_id, period, by_schedule, status, lease_token, lease_until)
    SELECT device, '[,]', by_schedule, status, CASE status WHEN 'running' THEN gen_random_uuid() END,
           CASE status WHEN 'running' THEN now() END
    FROM unnest(%s::bigint[], %s::boolean[], %s::text[]) AS given (device, by_schedule, status)
    RETURNING id, device_id, by_schedule, status
"""


async def _fill(database: Database, chance: random.Random) -> dict[int, _Device]:
    count = chance.randint(1, 30)
    await add_devices(database, count)
    rows = [
        (device, kind, status)
        for device in range(1, count + 1)
        for kind, status in ((False, "queued"), (True, "queued"), (chance.random() < 0.5, "running"))
        for _ in range(chance.choice([0, 0, 1, 2, 5]))
    ]
    chance.shuffle(rows)
    added = await database.execute(_FILL, tuple(map(list, zip(*rows, strict=True))) if rows else ([], [], []))
    devices = {device: _Device(0, [], []) for device in range(1, count + 1)}
    for request, device, kind, status in await added.fetchall():
        if status == "running":
            devices[device].running += 1
        else:
            (devices[device].schedules if kind else devices[device].people).append(request)
    return devices


def _is_alternating(kinds: Sequence[str], first: str) -> bool:
    """Whether the classes take turns from the first one on, until one of them has no more."""
    rest = Counter(kinds)
    turn = first
    for kind in kinds:
        if kind != turn and rest[turn]:
            return False
        rest[kind] -= 1
        turn = "people" if kind == "schedules" else "schedules"
    return True


@pytest.mark.parametrize("seed", range(12))
async def test_claims_are_those_of_a_model(database: Database, seed: int) -> None:
    """Claims of any size, with any requests queued and running, until nothing is queued."""
    chance = random.Random(seed)
    devices = await _fill(database, chance)
    kinds = {request: "people" for device in devices.values() for request in device.people}
    turns, model, first = Turns(), _Model(devices), "people"
    while True:
        limit = chance.choice([1, 1, 2, 3, 7, 40])
        held = await turns.claim(database, limit)
        expected = model.claim(limit, first)
        seen = [kinds.get(one.id, "schedules") for one in held]
        for kind in ("people", "schedules"):
            assert [one.id for one in held if kinds.get(one.id, "schedules") == kind] == expected[kind]
        assert _is_alternating(seen, first)
        if not held:
            break
        first = "people" if seen[-1] == "schedules" else "schedules"


async def test_concurrent_claims_of_several_never_overlap(database_url: str, database: Database) -> None:
    await add_devices(database, 40)
    for device in range(1, 41):
        await ask(database, device, 10, by_schedule=device % 3 > 0)

    async def claim_all(limit: int) -> list[int]:
        turns, claimed = Turns(), []
        async with await connect(database_url, "claimer") as connection:
            while batch := await turns.claim(connection, limit):
                claimed += [held.id for held in batch]
        return claimed

    claimed = await asyncio.gather(*(claim_all(limit) for limit in (1, 7, 30, 64)))
    assert sorted(itertools.chain(*claimed)) == list(range(1, 401))


async def test_a_fresh_claim_leaves_out_requests_that_were_claimed_before(database: Database) -> None:
    await add_devices(database, 2)
    await ask(database, 1, 3)
    await ask(database, 2, 3, by_schedule=True)
    await database.execute("UPDATE analysis_requests SET attempts = 1 WHERE id IN (1, 2, 4)")
    turns = Turns()
    assert sorted(held.id for held in await turns.claim(database, 10, fresh=True)) == [3, 5, 6]
    assert await turns.claim(database, 10, fresh=True) == []
    retries = await turns.claim(database, 10)
    assert {held.id: held.is_retry for held in retries} == {1: True, 2: True, 4: True}


# The cost of a claim.


def scanned(node: dict[str, Any]) -> float:
    """Return the number of rows of analysis_requests that a plan has read."""
    here = node.get("Relation Name") == "analysis_requests" and "Scan" in node["Node Type"]
    rows = (node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) * node["Actual Loops"] if here else 0
    return float(rows) + sum(map(scanned, node.get("Plans", ())))


@pytest.mark.parametrize("statement", [_OF_PEOPLE, _OF_SCHEDULES])
async def test_a_claim_does_not_read_the_backlog_that_statistics_do_not_contain(
    database: Database, statement: bytes
) -> None:
    """A schedule has queued a request for each device since the last ANALYZE, and a person as many."""
    await database.execute("ANALYZE analysis_requests")
    await add_devices(database, 20_000)
    await database.execute(
        "INSERT INTO analysis_requests (device_id, period, by_schedule)"
        " SELECT id, '[,]', n = 1 FROM devices, generate_series(0, 1) n"
    )
    for limit in (1, 64):
        given = {"after": 300, "lease": LEASE, "limit": limit, "spare": limit + 16, "fresh": False}
        async with database.transaction(force_rollback=True):
            explained = await database.execute(b"EXPLAIN (ANALYZE, FORMAT JSON) " + statement, given)
            row = await explained.fetchone()
        assert row is not None
        assert scanned(row[0][0]["Plan"]) <= 2 * (2 * limit + 16) + 2 * limit


# The class of a request.


async def classes(database: Database) -> list[tuple[int, bool]]:
    return await (await database.execute("SELECT id, by_schedule FROM analysis_requests ORDER BY id")).fetchall()


async def test_a_request_is_of_a_schedule_until_a_person_joins_it(
    api: httpx.AsyncClient, device: int, database: Database
) -> None:
    of_schedule, of_person = (Wanted(device, ALL_TIME, by_schedule=kind) for kind in (True, False))
    (first,) = await enqueue_all(database, [of_schedule])
    assert await enqueue_all(database, [of_schedule]) == [first]
    assert await classes(database) == [(first, True)]
    assert (await api.post(f"/stats/analysis/{device}/async")).json()["id"] == first
    assert await classes(database) == [(first, False)]
    assert await enqueue_all(database, [of_schedule]) == [first]
    assert await classes(database) == [(first, False)]
    assert await enqueue_all(database, [of_person]) == [first]


async def test_the_request_of_a_tick_is_of_a_schedule(database: Database) -> None:
    await add_devices(database, 1)
    await database.execute(
        "INSERT INTO analysis_schedules (device_id, cron, timezone, align, figures, next_tick)"
        " VALUES (1, '0 0 1 1 *', 'UTC', false, '{}', now())"
    )
    assert await run_due_ticks(database) == 1
    assert await classes(database) == [(1, True)]
