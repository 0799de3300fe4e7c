"""What a worker has in hand: each takes a place, and gives it back however it ends."""

import asyncio

import httpx

from query_api.queue import claims as queue
from query_api.worker.attempts import Attempts
from query_api.worker.metrics import WorkerMetrics
from shared.postgres.connections import open_pool
from tests.conftest import Database
from tests.waiting import eventually


async def test_what_is_cancelled_before_it_begins_gives_its_place_back(
    api: httpx.AsyncClient, device: int, database: Database, database_url: str
) -> None:
    """The word of the cancelling can come with the answer to the claim."""
    asked = (await api.post(f"/stats/analysis/{device}/async")).json()["id"]
    rooms = asyncio.Event()
    async with open_pool(database_url, "attempts") as pool, asyncio.TaskGroup() as tasks:
        attempts = Attempts(pool, tasks, WorkerMetrics(), rooms.set)
        held = await queue.claim(database)
        assert held is not None
        attempts.begin(held)
        attempts.ended_elsewhere(str(asked))
        assert len(attempts) == 1

        async def in_hand() -> int:
            return len(attempts)

        await eventually(in_hand, lambda count: count == 0)
        assert rooms.is_set()
