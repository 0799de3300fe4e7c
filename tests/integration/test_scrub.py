"""The worker checks blocks at random, and mends what is wrong (ADR 41)."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

import numpy as np
import pytest

from query_api.statistics.blocks.building import Columns
from query_api.statistics.blocks.checking.sampling import any_block
from query_api.statistics.blocks.layout import STANDARD, TOP
from query_api.statistics.blocks.sealing.merging import merge
from query_api.worker.maintenance.duty import alone
from query_api.worker.maintenance.scrub import Scrub
from query_api.worker.metrics import WorkerMetrics
from query_api.worker.tuning import Tuning
from shared.postgres.connections import connect
from shared.readings.model import SECOND, to_microseconds
from shared.settings import Settings
from tests import services
from tests.blocks import SMALL, assert_sealed, problems_of, sealed, stored
from tests.conftest import Database
from tests.roles import url_as
from tests.waiting import eventually

START = to_microseconds(datetime(2026, 1, 30, tzinfo=UTC))


def scrub(metrics: WorkerMetrics, share: float = 1.0) -> Scrub:
    return Scrub(metrics, SMALL, share)


@pytest.fixture
async def blocks(database: Database) -> list[int]:
    """The numbers of blocks of a device, of each level."""
    given = Columns(START + 60 * SECOND * np.arange(150), *np.random.default_rng(1).normal(0, 1, (3, 150)))
    await stored(database, 1, given)
    await sealed(database, 1, given.last + 1)
    await merge(database, 1, SMALL)
    return await assert_sealed(database, 1)


def value_of(metrics: WorkerMetrics, name: str) -> float:
    value = metrics.registry.get_sample_value(name)
    assert value is not None
    return value


async def until_mended(database: Database, act: Callable[[], Awaitable[None]]) -> None:
    """Scrub until a check finds nothing."""

    async def round_and_check() -> list[str]:
        await act()
        return await problems_of(database, 1)

    await eventually(round_and_check, lambda problems: not problems)


@pytest.mark.parametrize(
    "harm",
    [
        "UPDATE block_values SET sorted = sorted || sorted WHERE level = 1 AND axis = 0",
        "UPDATE blocks SET sum_x = 1 WHERE level = 2",
        "DELETE FROM readings WHERE recorded_at = '2026-01-30 00:03'",
        "DELETE FROM block_columns",
    ],
)
async def test_a_wrong_block_is_found_counted_and_mended(
    harm: str, database: Database, database_url: str, blocks: list[int]
) -> None:
    metrics = WorkerMetrics()
    await database.execute(harm.encode())
    async with await connect(url_as(database_url, "worker"), "worker") as worker:
        await until_mended(database, lambda: scrub(metrics).scrub(worker))
    assert value_of(metrics, "devicestat_worker_scrub_mismatches_total") > 0
    assert value_of(metrics, "devicestat_worker_scrubbed_blocks_total") > 0
    assert sum(await assert_sealed(database, 1)) > 0


async def test_right_blocks_stay(database: Database, blocks: list[int]) -> None:
    metrics = WorkerMetrics()
    for _ in range(20):
        await scrub(metrics).scrub(database)
    assert value_of(metrics, "devicestat_worker_scrub_mismatches_total") == 0
    assert value_of(metrics, "devicestat_worker_scrubbed_blocks_total") == 20
    assert await assert_sealed(database, 1) == blocks


async def test_one_worker_scrubs(database: Database, database_url: str, blocks: list[int]) -> None:
    metrics = WorkerMetrics()
    async with await connect(database_url, "other") as other, alone(other, "scrubbing round") as is_alone:
        assert is_alone
        await scrub(metrics).scrub(database)
    assert value_of(metrics, "devicestat_worker_scrubbed_blocks_total") == 0


async def test_retention_is_not_disturbed(database: Database, blocks: list[int]) -> None:
    """While it drops months, rows and blocks do not agree."""
    metrics = WorkerMetrics()
    await database.execute("INSERT INTO retiring_months (name) VALUES ('readings_2026_01')")
    await database.execute("ALTER TABLE readings DETACH PARTITION readings_2026_01")
    await scrub(metrics).scrub(database)
    assert value_of(metrics, "devicestat_worker_scrubbed_blocks_total") == 0
    assert await counts_of(database) == blocks


async def counts_of(database: Database) -> list[int]:
    counted = "SELECT level, count(*) FROM blocks GROUP BY level"
    found = dict(await (await database.execute(counted)).fetchall())
    return [found.get(level, 0) for level in range(TOP + 1)]


async def test_blocks_of_every_level_are_drawn(database: Database, blocks: list[int]) -> None:
    drawn = [await any_block(database) for _ in range(400)]
    assert {key.level for key in drawn if key is not None} == {level for level, count in enumerate(blocks) if count}
    assert len({key.first for key in drawn if key is not None}) > sum(blocks) / 2
    await database.execute("DELETE FROM blocks")
    assert await any_block(database) is None


async def test_there_are_no_blocks(database: Database) -> None:
    metrics = WorkerMetrics()
    await scrub(metrics).scrub(database)
    assert value_of(metrics, "devicestat_worker_scrubbed_blocks_total") == 0


async def test_a_worker_scrubs(make_settings: Callable[..., Settings], database: Database) -> None:
    given = Columns(START + SECOND * np.arange(9_000), *np.random.default_rng(1).normal(0, 1, (3, 9_000)))
    await stored(database, 1, given)
    await sealed(database, 1, given.last + 1, STANDARD, 1 << 18)
    await database.execute("UPDATE blocks SET sum_x = 1")
    async with services.worker(make_settings(), Tuning(scrub_s=0.01, jitter_s=0.01)):
        await eventually(lambda: problems_of(database, 1, STANDARD), lambda problems: not problems)
