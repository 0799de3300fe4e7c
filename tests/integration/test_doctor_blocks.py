"""`devicestat doctor` on sealed blocks: progress, what delays it, and wrong blocks."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from deploy.doctor import Finding, Severity
from deploy.doctor.blocks import CHECKS
from deploy.doctor.database import examine_database
from query_api.statistics.blocks.building import Columns
from query_api.statistics.blocks.checking.progress import fence, share
from query_api.statistics.blocks.layout import STANDARD
from shared.postgres.connections import connect
from shared.readings.deletions import Fence
from shared.readings.model import SECOND, to_microseconds
from shared.settings import Settings
from tests.blocks import sealed, stored
from tests.conftest import Database
from tests.roles import as_role, url_as

START = to_microseconds(datetime(2026, 1, 30, tzinfo=UTC))


async def examine_blocks(database: Database) -> list[Finding]:
    return [finding for check in CHECKS.values() for finding in await check(database)]


def only(found: list[Finding], what: str) -> Finding:
    (finding,) = (finding for finding in found if finding.what == what)
    return finding


@pytest.fixture
async def device(database: Database) -> int:
    """A device with 3,000 readings, of which 2,000 are sealed, beside another one."""
    given = Columns(START + SECOND * np.arange(3_000), *np.random.default_rng(1).normal(0, 1, (3, 3_000)))
    await stored(database, 1, given)
    await sealed(database, 1, START + 2_000 * SECOND, STANDARD, 1 << 18)
    await database.execute("INSERT INTO devices (id, key, name) VALUES (2, '2', '2')")
    await database.execute("UPDATE sealed_devices SET look_at = now() + interval '5 minutes'")
    await database.execute("ANALYZE readings")
    return 1


async def test_without_devices(database: Database) -> None:
    assert await examine_blocks(database) == [
        Finding(Severity.OK, "sealing", "devices with sealed readings: 0 of 0"),
        Finding(Severity.OK, "late readings", "0 readings"),
        Finding(Severity.OK, "blocks", "0 blocks compared with the readings"),
    ]


async def test_progress(database: Database, device: int) -> None:
    assert await examine_blocks(database) == [
        Finding(Severity.OK, "sealing", "devices with sealed readings: 1 of 2, about 67 % of 3,000 readings"),
        Finding(Severity.OK, "late readings", "0 readings"),
        Finding(Severity.OK, "blocks", "1 block compared with the readings"),
    ]


def test_a_share() -> None:
    assert share(0, None) == share(10, 0) == ""
    assert share(1_010, 1_000) == ", about 100 % of 1,000 readings"


@pytest.mark.parametrize(
    "late",
    [
        "UPDATE sealed_devices SET look_at = now() - interval '31 minutes'",
        "UPDATE devices SET created_at = now() - interval '31 minutes' WHERE key = '2'",
    ],
)
async def test_nobody_seals(late: str, database: Database, device: int) -> None:
    await database.execute(late.encode())
    found = only(await examine_blocks(database), "sealing")
    assert found.severity is Severity.WARNING
    assert "A device was due 31 minutes ago" in found.text
    assert "Does a worker run" in found.text


async def test_nobody_settles(database: Database, device: int) -> None:
    await stored(database, device, Columns(np.array([START + 7]), *np.ones((3, 1))))
    assert only(await examine_blocks(database), "late readings").text == "1 reading"
    await database.execute("UPDATE sealed_devices SET late_since = now() - interval '200 minutes'")
    found = only(await examine_blocks(database), "late readings")
    assert found.severity is Severity.WARNING
    assert found.text.startswith("1 reading, the oldest found 3 hours ago: ")


async def test_a_wrong_block(database: Database, device: int) -> None:
    await database.execute("UPDATE blocks SET count = count + 1")
    found = only(await examine_blocks(database), "blocks")
    assert found.severity is Severity.WRONG
    assert "device 1, 2026-01-30T00:" in found.text
    assert "`devicestat blocks check --mend`" in found.text


@pytest.mark.parametrize("role", ["owner", "worker"])
async def test_a_transaction_that_stores_readings_for_long(role: str, database: Database, database_url: str) -> None:
    """A role without privileges does not see since when, and looks twice."""
    url = database_url if role == "owner" else url_as(database_url, role)
    async with await connect(url_as(database_url, "ingestor"), "ingestor") as ingestor, await connect(url, "d") as own:
        assert await fence(own, look_s=0) == []
        async with ingestor.transaction():
            await Fence().enter(ingestor)
            first = await fence(own, look_s=0)
            if role == "owner":
                assert first == [], "it has just begun"
                return
        (found,) = first
        assert found.severity is Severity.WARNING
        assert f"devicestat ingestor (pid {ingestor.info.backend_pid})" in found.text
        assert f"SELECT pg_terminate_backend({ingestor.info.backend_pid})" in found.text
        assert await fence(own, look_s=0) == []


async def test_the_age_of_a_transaction_is_told(database: Database) -> None:
    async with database.transaction():
        await Fence().enter(database)
        (found,) = await fence(database, held=timedelta(seconds=-1))
    assert "has been storing readings for 0 seconds" in found.text


@pytest.mark.parametrize(("role", "refused"), [
    ("worker", set()), ("api", {"blocks"}), ("ingestor", {"sealing", "late readings", "blocks"}),
])  # fmt: skip
async def test_each_role_sees_what_it_may_see(
    role: str, refused: set[str], database: Database, device: int, make_settings: Callable[..., Settings]
) -> None:
    found = await examine_database(as_role(make_settings(), role))
    own = {finding.what: finding for finding in found if finding.what in CHECKS}
    assert own.keys() == {"sealing", "late readings", "blocks"}
    assert {what for what, finding in own.items() if "permission denied" in finding.text} == refused
    assert all(finding.severity is Severity.OK for what, finding in own.items() if what not in refused)
