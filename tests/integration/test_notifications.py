"""One connection that listens for all waiting requests."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from query_api.queue.channels import ENDED
from shared.postgres.listening import LOOK_AGAIN, Notifications
from tests.conftest import Database
from tests.services import database_away
from tests.waiting import HANG_S


@pytest.fixture
async def listening(database_url: str) -> AsyncIterator[Notifications]:
    """Notifications that listen on the channel of ended analyses."""
    heard = Notifications(database_url, [ENDED], max_waiting=3)
    task = asyncio.create_task(heard.run(), name="notifications")
    with heard.subscribe(ENDED, "begin") as queue:
        assert await next_of(queue) == LOOK_AGAIN
    yield heard
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def next_of(queue: asyncio.Queue[str]) -> str:
    async with asyncio.timeout(HANG_S):
        return await queue.get()


async def send(database: Database, *payloads: str) -> None:
    await database.execute("SELECT pg_notify(%s, p) FROM unnest(%s::text[]) AS p", (ENDED, list(payloads)))


async def test_each_subscription_gets_its_key(listening: Notifications, database: Database) -> None:
    with (
        listening.subscribe(ENDED, "1") as one,
        listening.subscribe(ENDED, "1") as another,
        listening.subscribe(ENDED, "12") as twelve,
        listening.subscribe(ENDED, "3") as three,
    ):
        everything: list[str] = []
        listening.add_subscriber(ENDED, everything.append)
        await send(database, "12 done", "1", "3")
        assert await next_of(three) == "3"
        assert everything == ["12 done", "1", "3"]
        assert (one.get_nowait(), another.get_nowait(), twelve.get_nowait()) == ("1", "1", "12 done")
        assert one.empty()
        assert twelve.empty()


async def test_an_ended_subscription_is_removed(listening: Notifications) -> None:
    with listening.subscribe(ENDED, "1"), listening.subscribe(ENDED, "1"):
        pass
    assert listening._queues == {}


async def test_after_an_outage_each_subscription_gets_look_again(
    listening: Notifications, postgres_server: str, database_url: str
) -> None:
    everything: list[str] = []
    listening.add_subscriber(ENDED, everything.append)
    with listening.subscribe(ENDED, "1") as one:
        async with database_away(postgres_server, database_url):
            pass
        assert await next_of(one) == LOOK_AGAIN
    assert everything == [LOOK_AGAIN]


async def test_look_again_replaces_the_payloads_of_a_full_queue(listening: Notifications, database: Database) -> None:
    with listening.subscribe(ENDED, "1") as slow, listening.subscribe(ENDED, "last") as end:
        await send(database, "1 a", "1 b", "1 c", "1 d", "1 e", "last")
        await next_of(end)
        assert [slow.get_nowait(), slow.get_nowait()] == [LOOK_AGAIN, "1 e"]
        assert slow.empty()
