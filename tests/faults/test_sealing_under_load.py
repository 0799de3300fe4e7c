"""An analysis in a snapshot equals a scan of it, while readings are stored, sealed, merged and settled (ADR 41)."""

import asyncio

import pytest

from query_api.statistics.blocks.checking.device import Checker
from tests.blocks import SMALL, assert_sealed, problems_of
from tests.conftest import Database
from tests.faults.sealing_stress import DEVICES, Stress
from tests.waiting import HANG_S

SHORT_S = 10.0
LONG_S = 3600.0
METRICS = [f"devicestat_worker_{name}_total" for name in ("sealed_readings", "sealing_failures")]


async def test_each_snapshot_is_right(database_url: str, database: Database) -> None:
    await hold(database_url, database, SHORT_S)


@pytest.mark.soak
async def test_each_snapshot_is_right_for_an_hour(database_url: str, database: Database) -> None:
    await hold(database_url, database, LONG_S)


@pytest.mark.parametrize("mends", [False, True])
async def test_a_check_beside_running_services_finds_nothing(
    database_url: str, database: Database, *, mends: bool
) -> None:
    stress = Stress(database_url)
    checker, checked = Checker(database, mends=mends, layout=SMALL), 0
    running = asyncio.create_task(stress.run(SHORT_S), name="stress")
    while not running.done():
        for device in DEVICES:
            problems = [str(problem) async for problem in checker.device(device)]
            assert problems == []
            checked += 1
    await running
    assert stress.wrong == []
    assert checked >= len(DEVICES)


async def hold(database_url: str, database: Database, seconds: float) -> None:
    stress = Stress(database_url)
    await stress.run(seconds)
    assert stress.wrong == []
    assert min(stress.stored, stress.sealed, stress.compared, stress.kills, stress.unsealed, stress.replayed) > 0
    sealed, failures = [stress.worker.registry.get_sample_value(name) for name in METRICS]
    assert sealed
    assert failures == 0
    assert sum([sum(await assert_sealed(database, device)) for device in DEVICES]) > 0


async def test_without_the_wait_for_writers_it_would_be_wrong(database_url: str) -> None:
    stress = Stress(database_url, waits=False)
    await stress.run(HANG_S)
    assert stress.wrong != []


async def test_without_the_check_of_writers_it_would_be_wrong(database_url: str, database: Database) -> None:
    stress = Stress(database_url, checks=False)
    await stress.run(HANG_S)
    assert stress.wrong != []
    assert any([await problems_of(database, device) for device in DEVICES]), "a check finds it, too"
