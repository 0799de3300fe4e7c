"""Replays over HTTP that meet locked dead letters or a failure: what they say, and what the audit log has of them."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import msgspec
import pytest

from query_api.web.operating.dead_letters import outcomes
from shared.postgres.connections import Connection as Database
from shared.settings import Settings
from tests import locks, services
from tests.letters import keep, left, letter
from tests.waiting import eventually

READING = b'{"x":1,"y":2,"z":3}'
AUDITED = "SELECT action, detail FROM audit_log WHERE action LIKE 'dead_letters.%' ORDER BY id"


async def two_letters(api: httpx.AsyncClient, database_url: str) -> None:
    """Register a device, and keep two dead letters of it."""
    assert (await api.post("/devices", json={"name": "n", "key": "late"})).status_code == 201
    await keep(database_url, [letter("devices/late/stats", READING.replace(b"1", b"%d" % x)) for x in (1, 2)])


async def audited(database: Database) -> list[Any]:
    return await (await database.execute(AUDITED)).fetchall()


async def test_a_locked_dead_letter_is_held_and_the_others_are_replayed(
    api: httpx.AsyncClient, database_url: str, database: Database
) -> None:
    await two_letters(api, database_url)
    async with database.transaction():
        await database.execute("SELECT FROM dead_letters WHERE id = 1 FOR UPDATE")
        answer = await api.post("/dead-letters/replay", json={"ids": [1, 2]})
    assert answer.status_code == 200
    assert [(one["id"], one["outcome"], one["stored"]) for one in answer.json()["outcomes"]] == [
        (1, "held", 0), (2, "replayed", 1),
    ]  # fmt: skip
    begun, ended = await audited(database)
    assert begun == ("dead_letters.replay_begun", {"letters": 2, "selection": {"ids": 2}})
    assert (ended[0], ended[1]["stored"]) == ("dead_letters.replayed", 1)
    assert left(database_url) == [1]


async def test_a_dead_letter_whose_month_cannot_be_made_is_held_and_the_others_are_replayed(
    api: httpx.AsyncClient, database_url: str, database: Database
) -> None:
    assert (await api.post("/devices", json={"name": "n", "key": "late"})).status_code == 201
    now = datetime.now(UTC)
    await database.execute("SELECT ensure_readings_partition(%s)", (now,))
    times = (now - timedelta(days=90), now)
    payloads = [b'{"x":1,"y":2,"z":3,"timestamp":"%s"}' % at.isoformat().encode() for at in times]
    await keep(database_url, [letter("devices/late/stats", payload) for payload in payloads])
    async with database.transaction():
        await database.execute("LOCK TABLE readings IN SHARE UPDATE EXCLUSIVE MODE")  # as a DETACH does
        answer = await api.post("/dead-letters/replay", json={"ids": [1, 2]})
    assert [(one["id"], one["outcome"], one["stored"]) for one in answer.json()["outcomes"]] == [
        (1, "held", 0), (2, "replayed", 1),
    ]  # fmt: skip
    again = await api.post("/dead-letters/replay", json={"ids": [1]})
    assert again.json()["outcomes"][0]["stored"] == 1


async def test_a_dead_letter_that_takes_too_long_is_cut_off(
    api_settings: Settings, database_url: str, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outcomes, "LOCK_TIMEOUT", "0")
    async with services.api(msgspec.structs.replace(api_settings, query_timeout=8)) as api:
        await two_letters(api, database_url)
        async with database.transaction():
            await database.execute("SELECT FROM dead_letters WHERE id = 2 FOR UPDATE")
            answer = await api.post("/dead-letters/replay", json={"ids": [1, 2]})
        assert [(one["id"], one["outcome"]) for one in answer.json()["outcomes"]] == [(1, "replayed"), (2, "cut_off")]
        again = await api.post("/dead-letters/replay", json={"ids": [2]})
        assert again.json()["outcomes"][0]["stored"] == 1
    assert [action for action, _ in await audited(database)] == [
        "dead_letters.replay_begun", "dead_letters.replayed"
    ] * 2  # fmt: skip
    assert left(database_url) == []


async def test_a_replay_whose_connection_is_killed_between_two_dead_letters_is_audited(
    api: httpx.AsyncClient, database_url: str, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outcomes, "LOCK_TIMEOUT", "0")
    await two_letters(api, database_url)
    async with asyncio.TaskGroup() as tasks, database.transaction():
        await database.execute("SELECT FROM dead_letters WHERE id = 2 FOR UPDATE")
        asking = tasks.create_task(api.post("/dead-letters/replay", json={"ids": [1, 2]}))
        await database.execute(
            "SELECT pg_terminate_backend(%s::int)", await eventually(lambda: locks.waiting(database), bool)
        )
        answer = await asking
    assert answer.status_code == 503
    assert [action for action, _ in await audited(database)] == ["dead_letters.replay_begun"]
    assert left(database_url) == [2]
