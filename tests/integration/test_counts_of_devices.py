"""The number of readings of a device: exact, an estimate, or a lower bound, and marked as such."""

from datetime import UTC, datetime
from typing import Any

import httpx
import numpy as np
import pytest

from query_api.readings import summaries
from query_api.statistics.blocks.building import Columns
from shared.postgres.connections import Connection as Database
from shared.readings.model import SECOND, to_microseconds
from tests.blocks import sealed, stored
from tests.explained import Explained

HOUR = 3_600 * SECOND
MANY = 150_000
_MONTH = "SELECT ensure_readings_partition(timestamptz '2026-05-01 UTC')"
_FILL = """
    INSERT INTO readings (device_id, recorded_at, received_at, x, y, z)
    SELECT %(device)s, timestamptz '2026-05-01 UTC' + n * interval '1 second', now(), n %% 7, 0, 0
    FROM generate_series(%(first)s::int, %(last)s::int) AS n
"""


async def fill(database: Database, device: int, first: int, last: int) -> None:
    await database.execute(_FILL, {"device": device, "first": first, "last": last})


async def shown(api: httpx.AsyncClient, device: int) -> tuple[int, bool, bool]:
    answer: dict[str, Any] = (await api.get(f"/devices/{device}")).json()
    return answer["readings"], answer["readings_is_estimate"], answer["readings_at_least"]


async def test_the_count_is_a_lower_bound_before_analyze_and_an_estimate_after(
    api: httpx.AsyncClient, device: int, database: Database
) -> None:
    await database.execute(_MONTH)
    (month,) = await (
        await database.execute("SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'readings'::regclass"
                               " AND inhrelid::regclass::text LIKE '%2026%05%'")
    ).fetchone() or ("",)  # fmt: skip
    await database.execute(f"ALTER TABLE {month} SET (autovacuum_enabled = false)")  # so that it is analysed here alone
    await fill(database, device, 1, MANY)
    assert await shown(api, device) == (100_001, True, True)
    await database.execute(f"ANALYZE {month}")
    count, is_estimate, at_least = await shown(api, device)
    assert (count, is_estimate, at_least) == (pytest.approx(MANY, rel=0.05), True, False)
    await fill(database, device, MANY + 1, 2 * MANY)  # what the statistics do not know, the size of the file tells
    count, is_estimate, at_least = await shown(api, device)
    assert (count, is_estimate, at_least) == (pytest.approx(2 * MANY, rel=0.05), True, False)


@pytest.mark.parametrize("devices", [1, 20])
async def test_each_device_has_its_own_estimate(
    database: Database, devices: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a cluster, one plan of a node has those of several devices, at most PLANNED."""
    monkeypatch.setattr(summaries, "most_counted", lambda _: 10)
    monkeypatch.setattr(summaries, "PLANNED", 2)
    await database.execute(_MONTH)
    await database.execute("INSERT INTO devices (id, key, name) SELECT n, n, n FROM generate_series(1, 20) AS n")
    for device in range(1, 21):
        await fill(database, device, 1, 50 * device)
    await database.execute("ANALYZE readings")
    short = await summaries.summarize(database, range(1, devices + 1))
    assert all(one.is_estimate for one in short.values())
    assert {device: one.count for device, one in short.items()} == {
        device: pytest.approx(50 * device, rel=0.2) for device in range(1, devices + 1)
    }


async def test_a_count_up_to_the_bound_is_exact(api: httpx.AsyncClient, device: int, database: Database) -> None:
    await database.execute(_MONTH)
    await fill(database, device, 1, 50_000)
    assert await shown(api, device) == (50_000, False, False)
    (listed,) = (await api.get("/devices")).json()
    assert (listed["readings"], listed["readings_is_estimate"], listed["readings_at_least"]) == (50_000, False, False)


async def test_sealed_readings_are_counted_by_their_blocks(
    api: httpx.AsyncClient, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And late ones, and those that are not sealed."""
    monkeypatch.setattr(summaries, "COUNTED", 50)
    monkeypatch.setattr(summaries, "COUNTED_IN_ALL", 50)
    monkeypatch.setattr(summaries, "COUNTED_BESIDE_BLOCKS", 70)
    begins = to_microseconds(datetime(2026, 1, 30, tzinfo=UTC))  # of two months
    await stored(database, 7, columns(begins, 1_000))
    assert await shown(api, 7) == (51, True, True)
    await sealed(database, 7, begins + 950 * HOUR)
    assert await shown(api, 7) == (1_000, False, False)
    await stored(database, 7, columns(begins + 100 * HOUR + 1, 3))
    assert await shown(api, 7) == (1_003, False, False)
    await stored(database, 7, columns(begins + 1_000 * HOUR, 20))
    assert await shown(api, 7) == (1_023, False, False)
    await stored(database, 8, columns(begins, 10))
    listed = (await api.get("/devices")).json()
    assert [one["readings"] for one in listed] == [1_023, 10]
    await stored(database, 7, columns(begins + 1_020 * HOUR, 1))
    assert await shown(api, 7) == (1_024, True, True)
    assert (await api.get("/devices/7")).json()["first_reading_at"] == "2026-01-30T00:00:00.000000Z"


async def test_the_blocks_of_a_month_that_is_dropped_are_not_counted(
    api: httpx.AsyncClient, database: Database
) -> None:
    begins = to_microseconds(datetime(2026, 1, 30, tzinfo=UTC))
    await stored(database, 7, columns(begins, 1_000))
    await sealed(database, 7, begins + 950 * HOUR)
    await database.execute("INSERT INTO retiring_months VALUES ('readings_2026_01')")
    assert await shown(api, 7) == (1_000, False, False)
    await database.execute("ALTER TABLE readings DETACH PARTITION readings_2026_01")
    assert await shown(api, 7) == (1_000 - 48, False, False)


@pytest.mark.plain_only("the nodes do not have the session's SET, without which so few blocks are scanned")
async def test_the_blocks_of_many_devices_are_counted_in_the_index(database: Database) -> None:
    begins = to_microseconds(datetime(2026, 1, 1, tzinfo=UTC))
    for device in range(1, 6):
        await stored(database, device, columns(begins, 500))
        await sealed(database, device, begins + 500 * HOUR)
    await database.execute("VACUUM (ANALYZE)")
    await database.execute("SET enable_seqscan = off")  # of so few blocks
    explained = Explained(database)
    found = await summaries.summarize(explained.connection, range(1, 6))
    assert [one.count for one in found.values()] == [500] * 5
    plans = [plan for plan in explained.taken() if "blocks_counted" in plan.indexes]
    assert [scan["Node Type"] for plan in plans for scan in plan.scans if scan["Relation Name"] == "blocks"] == [
        "Index Only Scan"
    ]


def columns(begins: int, count: int) -> Columns:
    """Return readings, an hour apart."""
    numbers = np.arange(count)
    return Columns(begins + numbers * HOUR, *(numbers % 7 + axis * 0.5 for axis in range(3)))
