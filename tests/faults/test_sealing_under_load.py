"""An analysis in a snapshot equals a scan of it, while readings are stored, sealed, merged and settled (ADR 41)."""

import asyncio

import pytest

from query_api.statistics.blocks.checking.device import Checker
from tests.blocks import SMALL, assert_sealed, problems_of
from tests.conftest import Database
from tests.faults.sealing_stress import DEVICES, Stress
from tests.waiting import HANG_S, eventually

SHORT_S = 4.0
LONG_S = 3600.0
METRICS = [f"devicestat_worker_{name}_total" for name in ("sealed_readings", "sealing_failures")]


async def test_each_snapshot_is_right(database_url: str, database: Database) -> None:
    await hold(database_url, database, SHORT_S)


@pytest.mark.soak
async def test_each_snapshot_is_right_for_an_hour(database_url: str, database: Database) -> None:
    await hold(database_url, database, LONG_S)


async def hold(database_url: str, database: Database, seconds: float) -> None:
    """Hold that each analysis is right, and that checks of the blocks find nothing: some that mend, and some not."""
    stress = Stress(database_url)
    running = asyncio.create_task(run(stress, seconds), name="stress")
    checks = 0
    await eventually(lambda: acts_and_failures(stress), lambda _: running.done() or stress.sealed > 0)
    while checks < 2 or not running.done():
        checker = Checker(database, mends=checks % 2 == 1, layout=SMALL)
        for device in DEVICES:
            problems = [str(problem) async for problem in checker.device(device)]
            assert problems == []
        checks += 1
    await running
    assert stress.wrong == []
    least, failures = await acts_and_failures(stress)
    assert least > 0
    assert failures == 0
    assert sum([sum(await assert_sealed(database, device)) for device in DEVICES]) > 0


async def run(stress: Stress, seconds: float) -> None:
    """Run for some seconds, and until each part has acted."""
    running = asyncio.create_task(stress.run(seconds + HANG_S), name="parts")
    try:
        await asyncio.wait({running}, timeout=seconds)
        await eventually(lambda: acts_and_failures(stress), lambda seen: running.done() or seen[0] > 0)
    finally:
        stress.stop()
        await running


async def acts_and_failures(stress: Stress) -> tuple[float, float]:
    """Return how often the part that acted least has acted, and the failures of the worker's rounds."""
    sealed, failures = [stress.worker.registry.get_sample_value(name) for name in METRICS]
    assert sealed is not None
    assert failures is not None
    acts = (stress.stored, stress.sealed, stress.compared, stress.kills, stress.unsealed, stress.replayed)
    return min(*acts, sealed), failures


async def test_without_the_wait_for_writers_it_would_be_wrong(database_url: str) -> None:
    stress = Stress(database_url, waits=False)
    await stress.run(HANG_S)
    assert stress.wrong != []


async def test_without_the_check_of_writers_it_would_be_wrong(database_url: str, database: Database) -> None:
    stress = Stress(database_url, checks=False)
    await stress.run(HANG_S)
    assert stress.wrong != []
    assert any([await problems_of(database, device) for device in DEVICES]), "a check finds it, too"
