"""What is wrong with blocks is found, and mended: each test makes something wrong by SQL (ADR 41)."""

import math
from datetime import UTC, datetime

import numpy as np
import pytest

from query_api.statistics.blocks import exact
from query_api.statistics.blocks.building import Columns
from query_api.statistics.blocks.checking.device import Checker
from query_api.statistics.blocks.checking.stored import read_row, read_values, values_equal
from query_api.statistics.blocks.coding import Coded, code_sorted
from query_api.statistics.blocks.reading.items import Items
from query_api.statistics.blocks.reading.snapshot import snapshot
from query_api.statistics.blocks.reading.statistics import Needs, read_statistics
from query_api.statistics.blocks.sealing.merging import merge
from query_api.statistics.blocks.sealing.settling import settle
from shared.postgres import arrays
from shared.readings.model import SECOND, to_microseconds
from tests.blocks import SMALL, assert_sealed, problems_of, sealed, stored
from tests.conftest import Database

START = to_microseconds(datetime(2026, 1, 30, tzinfo=UTC))
STEP = 600 * SECOND
_BLOCK = """
    (device_id, level, first) = (SELECT device_id, level, first FROM blocks WHERE level = {level}
                                 ORDER BY level > 0 AND first = '2026-01-30', first LIMIT 1)
"""
_FLIPPED = "set_byte({0}, octet_length({0}) / 2, 255 - get_byte({0}, octet_length({0}) / 2))"
_READING = """
    (device_id, recorded_at) = (SELECT device_id, recorded_at FROM readings ORDER BY recorded_at OFFSET 100 LIMIT 1)
"""
PLACES = {
    **{f"BLOCK_{level}": _BLOCK.format(level=level) for level in range(4)},
    **{f"FLIPPED_{column}": _FLIPPED.format(column) for column in ("sorted", "guides", "columns", "marks", "times")},
    "A_READING": _READING,
    "INSERT_AT": "INSERT INTO readings (device_id, received_at, x, y, z, recorded_at) SELECT 1, now(), 1, 2, 3,",
    # Citus shifts a column only by an immutable expression.
    "SECOND_LATER": "(last AT TIME ZONE 'UTC' + interval '1 second') AT TIME ZONE 'UTC'",
    "HOURS_LATER": "(recorded_at AT TIME ZONE 'UTC' + interval '3 hours') AT TIME ZONE 'UTC'",
    "AS_LATE": "INSERT INTO late_readings SELECT",
}
"""Words that the statements below contain."""
BYTES = (
    "UPDATE block_values SET sorted = FLIPPED_sorted WHERE axis = 1 AND BLOCK_0",
    "UPDATE block_values SET sorted = FLIPPED_sorted WHERE axis = 0 AND BLOCK_1",
    "UPDATE block_values SET sorted = FLIPPED_sorted WHERE axis = 2 AND BLOCK_2",
    "UPDATE block_values SET sorted = FLIPPED_sorted WHERE axis = 1 AND BLOCK_3",
    "UPDATE block_values SET guides = FLIPPED_guides WHERE axis = 0 AND BLOCK_2",
    "UPDATE block_values SET guides = FLIPPED_guides WHERE axis = 2 AND BLOCK_3",
    "UPDATE block_columns SET columns = FLIPPED_columns WHERE BLOCK_0",
    "UPDATE block_columns SET columns = FLIPPED_columns WHERE BLOCK_1",
    "UPDATE block_columns SET columns = substr(columns, 9) WHERE BLOCK_1",
    "UPDATE block_columns SET coding = coding + 100 WHERE axis = 0 AND BLOCK_1",
    "UPDATE block_columns SET frame_bytes = frame_bytes + 1 WHERE axis = 3 AND BLOCK_1",
    "UPDATE block_values SET coding = 999 WHERE axis = 0 AND BLOCK_1",
    "UPDATE block_values SET frame_bytes = frame_bytes + 1 WHERE axis = 0 AND BLOCK_2",
    "UPDATE blocks SET marks = FLIPPED_marks WHERE BLOCK_1",
    "UPDATE blocks SET marks = FLIPPED_marks WHERE BLOCK_3",
    "UPDATE blocks SET times = FLIPPED_times WHERE BLOCK_1",
)
FIGURES = (
    "UPDATE blocks SET count = count + 1 WHERE BLOCK_1",
    "UPDATE blocks SET count = count + 1 WHERE BLOCK_2",
    "UPDATE blocks SET last = SECOND_LATER WHERE BLOCK_1",
    "UPDATE blocks SET last = SECOND_LATER WHERE BLOCK_2",
    "UPDATE blocks SET last = SECOND_LATER WHERE BLOCK_3",
    "UPDATE blocks SET sum_y = sum_y + 1e-9 WHERE BLOCK_1",
    "UPDATE blocks SET sum_y = sum_y + 1e-9 WHERE BLOCK_3",
    "UPDATE blocks SET squares_z = squares_z * 1.0000001 WHERE BLOCK_1",
    "UPDATE blocks SET squares_z = squares_z * 1.0000001 WHERE BLOCK_2",
    "UPDATE blocks SET max_x = max_x + 1 WHERE BLOCK_1",
    "UPDATE blocks SET min_z = min_z - 1 WHERE BLOCK_3",
    "UPDATE blocks SET merged = NOT merged WHERE BLOCK_0",
    "UPDATE blocks SET merged = NOT merged WHERE BLOCK_1",
    "UPDATE blocks SET merged = NOT merged WHERE BLOCK_2",
    "UPDATE blocks SET merged = NOT merged WHERE BLOCK_3",
)
MISSING = (
    "DELETE FROM block_columns WHERE BLOCK_1",
    "DELETE FROM block_values WHERE axis = 2 AND BLOCK_0",
    "DELETE FROM block_values WHERE axis = 0 AND BLOCK_1",
    "DELETE FROM block_values WHERE axis = 1 AND BLOCK_2",
    "DELETE FROM block_values WHERE axis = 1 AND BLOCK_3",
    "DELETE FROM blocks WHERE BLOCK_0",
    "DELETE FROM blocks WHERE BLOCK_1",
    "DELETE FROM blocks WHERE BLOCK_2",
    "DELETE FROM blocks WHERE BLOCK_3",
    "DELETE FROM blocks WHERE level = 1",
    "DELETE FROM blocks",
)
READINGS = (
    "DELETE FROM readings WHERE A_READING",
    "UPDATE readings SET x = x + 1 WHERE A_READING",
    "UPDATE readings SET recorded_at = HOURS_LATER WHERE A_READING",
    "UPDATE readings SET z = - z WHERE z = 0 AND recorded_at < '2026-01-31'",
    "INSERT_AT '2026-01-31 00:00:00.5'",
    "INSERT_AT '2026-01-31 23:59:59.5'",
    "INSERT_AT '2026-01-29 23:00:00'",
    "INSERT_AT '2026-02-01 16:59:59'",
    "SELECT ensure_readings_partition('2025-12-01'); INSERT_AT '2025-12-31 23:00'; SELECT find_device_extents()",
    "AS_LATE device_id, recorded_at, x, y, z FROM readings WHERE A_READING",
    "AS_LATE 1, '2026-01-31 07:07:07', 1, 2, 3",
    "DELETE FROM late_readings",
)
HARM = {"bytes": BYTES, "figures": FIGURES, "missing": MISSING, "readings": READINGS}
OF_THE_DEVICE = (
    "UPDATE sealed_devices SET announced = announced + interval '1 day', sealed = sealed + interval '4 hours'",
    "UPDATE sealed_devices SET sealed = sealed - interval '20 hours'",
    "DELETE FROM sealed_devices",
    "DELETE FROM sealed_devices; INSERT INTO sealed_devices (device_id) VALUES (1)",
    "DELETE FROM readings",
)


def readings(count: int, start: int = START, step: int = STEP, seed: int = 1) -> Columns:
    rng = np.random.default_rng(seed)
    x, y, z = rng.normal(0, 100, count), np.round(rng.normal(5, 1, count), 1), rng.choice([0.0, -0.0, 1.0], count)
    return Columns(start + step * np.arange(count), x, y, z)


@pytest.fixture
async def device(database: Database) -> int:
    """A device with two blocks or more of each level, late readings, and readings that are not sealed."""
    given = readings(400)
    await stored(database, 1, given)
    for until in (300, 360, 380, 390):
        await sealed(database, 1, int(given.times[until]))
        await merge(database, 1, SMALL)
    await stored(database, 1, readings(5, START + 7, 9 * STEP, seed=3))
    await stored(database, 1, readings(3, START - STEP, SECOND, seed=4))
    minis, *others = await assert_sealed(database, 1)
    assert minis >= 1
    assert min(others) >= 2
    return 1


async def mended(database: Database, device: int) -> list[str]:
    return [str(problem) async for problem in Checker(database, mends=True, layout=SMALL).device(device)]


async def assert_like_a_scan(database: Database) -> None:
    """Hold that an analysis of the device counts each reading once."""
    async with snapshot(database):
        found = await read_statistics(database, Items.each([1], None, None), Needs((0.5,)), SMALL)
        rows = await (await database.execute("SELECT x, y, z FROM readings")).fetchall()
    values = np.array(rows).reshape(-1, 3)
    assert (found.groups[0] is None) == (len(values) == 0)
    for axis, own in zip(found.groups[0] or (), values.T, strict=len(values) > 0):
        assert (axis.count, exact.rounded(axis.total)) == (len(own), math.fsum(own))
        assert sum(axis.pairs[0.5]) / 2 == np.median(own)


@pytest.mark.parametrize("kind", HARM)
async def test_what_is_wrong_is_found_and_mended(kind: str, database: Database, device: int) -> None:
    for number, statements in enumerate(HARM[kind]):
        await harm(database, statements)
        await assert_mended(database, device, statements)
        await restore(database, device, number)


@pytest.mark.parametrize("statements", OF_THE_DEVICE)
async def test_a_device_is_wrong(statements: str, database: Database, device: int) -> None:
    await harm(database, statements)
    await assert_mended(database, device, statements)
    await restore(database, device, 0)
    assert await problems_of(database, device) == []


async def harm(database: Database, statements: str) -> None:
    for place, text in PLACES.items():
        statements = statements.replace(place, text)
    for statement in statements.split(";"):
        changed = await database.execute(statement.encode())
    assert changed.rowcount > 0, f"nothing was changed by {statements}"


async def assert_mended(database: Database, device: int, statements: str) -> None:
    assert await problems_of(database, device), statements
    assert await mended(database, device), f"a check changed something: {statements}"
    assert await problems_of(database, device) == [], statements
    await assert_like_a_scan(database)


async def restore(database: Database, device: int, number: int) -> None:
    """Make blocks of all levels again, and a late reading."""
    await settle(database, device, SMALL)
    await sealed(database, device, START + 390 * STEP)
    await merge(database, device, SMALL)
    await stored(database, device, readings(1, START + 30 * STEP + number + 1))


async def test_values_are_compared_in_slices(database: Database, device: int) -> None:
    (first,) = await (await arrays.cursor(database).execute("SELECT min(first) FROM blocks WHERE level = 3")).fetchone()
    row = await read_row(database, device, 3, first)
    assert row is not None
    values = await read_values(database, device, row, 2, SMALL)
    assert values is not None
    coded, guides = code_sorted(values, SMALL.guide), values[:: SMALL.guide].tobytes()
    for size in (1, 7, len(coded.data), len(coded.data) + 1):
        assert await values_equal(database, device, row, 2, coded, guides, size)
        for place in (0, len(coded.data) // 2, len(coded.data) - 1):
            data = bytearray(coded.data)
            data[place] ^= 1
            other = Coded(coded.coding, coded.frame_bytes, memoryview(data))
            assert not await values_equal(database, device, row, 2, other, guides, size)
    assert not await values_equal(database, device, row, 2, code_sorted(values[: -SMALL.guide], SMALL.guide), guides)
    assert not await values_equal(database, device, row, 2, coded, guides[8:])
