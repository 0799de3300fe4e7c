"""`devicestat blocks check`, with the roles that an operator may use."""

import subprocess
from datetime import UTC, datetime

import numpy as np
import pytest

from query_api.statistics.blocks.building import Columns
from query_api.statistics.blocks.layout import STANDARD
from shared.readings.model import SECOND, to_microseconds
from tests.blocks import problems_of, sealed, stored
from tests.command import arun
from tests.conftest import Database
from tests.roles import url_as

START = to_microseconds(datetime(2026, 1, 30, tzinfo=UTC))
DEVICES = (3, 7)


@pytest.fixture
async def devices(database: Database) -> None:
    """Devices with sealed readings, and one without."""
    for device in DEVICES:
        rng = np.random.default_rng(device)
        given = Columns(START + SECOND * np.arange(9_500), *rng.normal(0, 1, (3, 9_500)))
        await stored(database, device, given)
        await sealed(database, device, given.last + 1, STANDARD, 1 << 18)
    await database.execute("INSERT INTO devices (id, key, name) VALUES (5, '5', 'n')")


async def check(url: str, *options: str) -> subprocess.CompletedProcess[str]:
    result = await arun("blocks", "check", *options, database_url=url)
    assert result.stderr == "" or result.stderr.startswith("devicestat: "), result.stderr
    return result


async def break_two(database: Database) -> None:
    await database.execute("UPDATE blocks SET sum_x = sum_x + 1 WHERE device_id = 3 AND level = 1")
    await database.execute(
        "DELETE FROM readings WHERE device_id = 7 AND recorded_at IN ('2026-01-30 00:00:05', '2026-01-30 00:00:09')"
    )


@pytest.mark.usefixtures("devices")
async def test_problems_are_printed_and_mended(database: Database, database_url: str) -> None:
    """The owner and the worker's role may check and mend."""
    url = url_as(database_url, "worker")
    sound = await check(database_url)
    assert (sound.returncode, sound.stdout) == (0, "2 devices checked: no problems\n")
    await break_two(database)

    found = await check(url)
    *problems, summary = found.stdout.splitlines()
    assert found.returncode == 1
    assert problems == [
        "device 3, 2026-01-30T00:00:00.000000Z: the block of level 1 is wrong in sums",
        "device 7, 2026-01-30T00:00:05.000000Z: 2 readings are in a block or in late_readings, and not in readings",
    ]
    assert summary == (
        "2 devices checked: 2 problems in 2 of them: `devicestat blocks check --mend` builds what is wrong anew"
    )
    one = await check(database_url, "--device", "7")
    assert one.stdout.splitlines()[0] == problems[1]

    mended = await check(url, "--mend")
    assert (mended.returncode, mended.stdout.splitlines()) == (
        1,
        [*problems, "2 devices checked: 2 problems in 2 of them: mended"],
    )
    for device in DEVICES:
        assert await problems_of(database, device, STANDARD) == []


@pytest.mark.usefixtures("devices")
async def test_a_role_that_may_not_mend(database: Database, database_url: str) -> None:
    await break_two(database)
    result = await check(url_as(database_url, "api"), "--mend")
    assert result.returncode == 1
    assert "permission denied" in result.stderr


@pytest.mark.usefixtures("devices")
async def test_a_device_without_sealed_readings(database_url: str) -> None:
    result = await check(database_url, "--device", "5")
    assert result.returncode == 1
    assert result.stderr == "devicestat: device 5 does not exist, or none of its readings is sealed\n"


async def test_there_is_nothing_to_check(database_url: str) -> None:
    result = await check(database_url)
    assert (result.returncode, result.stdout) == (0, "0 devices checked: no problems\n")
