"""A live stream sends nothing without a valid key, even if the key cannot be checked.

The tests block the check of keys by a lock. Events that arrive before its release were sent without a check.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import httpx
import msgspec
import pytest

from query_api.readings.live.listeners import LiveBounds
from query_api.serve.pools import QUICK
from query_api.serve.tuning import DEFAULT, Tuning
from shared.access import keys as access_keys
from shared.access.credentials import Role
from shared.access.keys import NewKey
from shared.postgres.connections import connect
from shared.settings import Settings
from tests import locks, services
from tests.conftest import Database
from tests.credentials import TESTER, bearer, key
from tests.integration.test_live import listening, next_of, readings_of
from tests.waiting import eventually

METRICS_TOKEN = "the-token-of-the-tests-metrics"  # it guards nothing but this test


class Stage(msgspec.Struct, frozen=True):
    """An API with AUTH on, a device in it, and an analyst's key."""

    api: httpx.AsyncClient
    device: int
    token: dict[str, str]
    analyst: NewKey

    async def store(self, x: float) -> None:
        """Store a reading over HTTP with the token of the device."""
        reading = {"device_id": self.device, "x": x, "y": 0, "z": 0}
        assert (await self.api.post("/stats", json=reading, headers=self.token)).status_code == 201

    async def held(self) -> float:
        """Return the number of streams that hold events back."""
        return await held_by(self.api)


async def held_by(api: httpx.AsyncClient) -> float:
    """Return the number of streams that the API holds back."""
    lines = (await api.get("/metrics", headers=bearer(METRICS_TOKEN))).text.splitlines()
    return next(float(line.split()[-1]) for line in lines if line.startswith("devicestat_http_live_held "))


@pytest.fixture
async def stage(api_settings: Settings, database: Database, tuning: Tuning) -> AsyncIterator[Stage]:
    admin = bearer(await key(database, Role.ADMIN))
    analyst = await access_keys.create(database, TESTER, Role.ANALYST, "analyst", None)
    settings = msgspec.structs.replace(api_settings, auth="on", metrics_token=METRICS_TOKEN)
    async with services.api(settings, tuning) as api:
        device = (await api.post("/devices", json={"name": "d"}, headers=admin)).json()
        yield Stage(api, device["id"], bearer(device["token"]), analyst)


def blocked(stage: Stage, database: Database) -> AbstractAsyncContextManager[None]:
    """Block the check of keys, so that the stream holds events back."""
    return blocked_checks(database, stage.held)


@asynccontextmanager
async def blocked_checks(database: Database, held: Callable[[], Awaitable[float]]) -> AsyncIterator[None]:
    """Block the check of keys, and wait until one stream is held back."""
    async with database.transaction():
        await database.execute("LOCK TABLE access_keys IN ACCESS EXCLUSIVE MODE")
        await eventually(held, lambda count: count == 1)
        yield


async def has_read(database: Database, x: float) -> None:
    """Wait until the process has read the stored readings for its listeners."""

    async def last_query() -> Any:
        cursor = await database.execute(
            "SELECT query LIKE '%%FROM readings%%' AND state = 'idle' FROM pg_stat_activity "
            "WHERE application_name = 'devicestat api live' AND datname = current_database() "
            "AND query_start > (SELECT max(received_at) FROM readings WHERE x = %s)",
            (x,),
        )
        row = await cursor.fetchone()
        return row is not None and row[0]

    await eventually(last_query, bool)


async def test_a_revoked_key_gets_no_readings_while_its_check_is_blocked(
    stage: Stage, database: Database, database_url: str
) -> None:
    async with (
        listening(stage.api, stage.device, **bearer(stage.analyst.text)) as events,
        await connect(database_url, "watching") as watching,
    ):
        await stage.store(1)
        assert await readings_of(events, 1) == [1]
        async with blocked(stage, database):
            await access_keys.revoke(database, TESTER, stage.analyst.prefix)
            await stage.store(2)
            await has_read(watching, 2)
        event = await next_of(events)
        assert (event["event"], "revoked" in event["data"]["detail"]) == ("end", True)
        with pytest.raises(StopAsyncIteration):
            await next_of(events)


async def test_held_back_readings_are_sent_once_the_key_is_confirmed(
    stage: Stage, database: Database, database_url: str
) -> None:
    async with (
        listening(stage.api, stage.device, **bearer(stage.analyst.text)) as events,
        await connect(database_url, "watching") as watching,
    ):
        async with blocked(stage, database):
            await stage.store(1)
            await has_read(watching, 1)
        await stage.store(2)
        assert await readings_of(events, 2) == [1, 2]
        assert await eventually(stage.held, lambda count: count == 0) == 0


@pytest.mark.serve(Tuning(live=LiveBounds(held_s=2.0)))
async def test_a_stream_that_is_held_back_for_long_ends_and_says_so(stage: Stage, database: Database) -> None:
    async with listening(stage.api, stage.device, **bearer(stage.analyst.text)) as events, blocked(stage, database):
        await stage.store(1)
        event = await next_of(events)
        assert event["event"] == "interrupted"
        assert "reconnect" in event["data"]["detail"]
        with pytest.raises(StopAsyncIteration):
            await next_of(events)
    headers = bearer(stage.analyst.text) | {"last-event-id": "1"}
    async with listening(stage.api, stage.device, **headers) as events:
        assert (await next_of(events))["event"] == "gap"  # no reading is lost silently
        await stage.store(2)
        assert await readings_of(events, 1) == [2]


async def test_a_key_is_revoked_while_all_connections_of_requests_are_in_use(
    stage: Stage, database: Database, database_url: str
) -> None:
    headers = bearer(stage.analyst.text)
    async with (
        asyncio.TaskGroup() as tasks,
        listening(stage.api, stage.device, **headers) as events,
        await connect(database_url, "holder") as holder,
        holder.transaction(),
    ):
        await holder.execute("LOCK TABLE devices IN ACCESS EXCLUSIVE MODE")
        paths = [f"/devices/{stage.device}"] * QUICK + [f"/stats/analysis/{stage.device}"] * DEFAULT.slow_reads.each
        reads = [tasks.create_task(stage.api.get(path, headers=headers)) for path in paths]
        await eventually(lambda: locks.waiting(database), lambda seen: len(seen) >= len(paths))
        await access_keys.revoke(database, TESTER, stage.analyst.prefix)
        assert (await next_of(events))["event"] == "end"
        assert not any(read.done() for read in reads)
