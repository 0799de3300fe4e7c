"""Attempts of a worker: each occupies a place, and releases it at any end."""

import asyncio

import httpx

from query_api.worker.analyses.attempts import Attempts
from query_api.worker.metrics import WorkerMetrics
from shared.postgres.connections import open_pool
from tests.claiming import claim_one
from tests.conftest import Database
from tests.waiting import eventually


async def test_an_attempt_that_is_cancelled_before_it_starts_releases_its_place(
    api: httpx.AsyncClient, device: int, database: Database, database_url: str
) -> None:
    """The notification of the cancellation can arrive together with the claim."""
    asked = (await api.post(f"/stats/analysis/{device}/async")).json()["id"]
    rooms = asyncio.Event()
    async with open_pool(database_url, "attempts") as pool, asyncio.TaskGroup() as tasks:
        attempts = Attempts(pool, tasks, WorkerMetrics(), rooms.set)
        held = await claim_one(database)
        assert held is not None
        attempts.begin([held])
        attempts.ended_elsewhere(str(asked))
        assert len(attempts) == 1

        async def in_hand() -> int:
            return len(attempts)

        await eventually(in_hand, lambda count: count == 0)
        assert rooms.is_set()
