"""The number of readings of a device: exact, an estimate, or a lower bound, and marked as such."""

from typing import Any

import httpx
import pytest

from shared.postgres.connections import Connection as Database

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


async def test_a_count_up_to_the_bound_is_exact(api: httpx.AsyncClient, device: int, database: Database) -> None:
    await database.execute(_MONTH)
    await fill(database, device, 1, 50_000)
    assert await shown(api, device) == (50_000, False, False)
    (listed,) = (await api.get("/devices")).json()
    assert (listed["readings"], listed["readings_is_estimate"], listed["readings_at_least"]) == (50_000, False, False)
