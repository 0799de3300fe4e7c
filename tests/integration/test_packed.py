"""Rows that a statement packs into one bytea: each value comes back bit by bit."""

from collections.abc import Sequence

import numpy as np
import pytest

from query_api.statistics.blocks.packed import PACKED, PACKED_WITH_TIMES, unpacked, unpacked_with_times
from shared.postgres import arrays
from shared.postgres.arrays import Floats, Moments
from tests.conftest import Database

X = [0.0, -0.0, 1.5, -1.7976931348623157e308, 5e-324]
Y = [0.1, 0.2, 0.30000000000000004, 1e-300, -2.0]
Z = [3.0, 2.0, 1.0, 0.0, -1.0]
TIMES = [-1, 0, 946_684_799_999_999, 946_684_800_000_000, 4_102_444_800_123_456]
_ROWS = """
    SELECT {packed}
    FROM unnest(%s::timestamptz[], %s::float8[], %s::float8[], %s::float8[]) AS row (recorded_at, x, y, z)
"""


async def packed(database: Database, aggregate: str, times: Sequence[int], *axes: Sequence[float]) -> bytes | None:
    parameters = Moments(np.array(times, np.int64)), *(Floats(np.array(values, np.float64)) for values in axes)
    async with arrays.cursor(database) as cursor:
        row = await (await cursor.execute(_ROWS.format(packed=aggregate).encode(), parameters)).fetchone()
    assert row is not None
    assert row[0] is None or isinstance(row[0], bytes)
    return row[0]


@pytest.mark.parametrize("count", [0, 1, 5])
async def test_axes(database: Database, count: int) -> None:
    axes = unpacked(await packed(database, PACKED, TIMES[:count], X[:count], Y[:count], Z[:count]))
    assert [values.tobytes() for values in axes] == [np.array(values[:count]).tobytes() for values in (X, Y, Z)]
    assert all(values.flags.c_contiguous for values in axes)


@pytest.mark.parametrize("count", [0, 1, 5])
async def test_times_and_axes(database: Database, count: int) -> None:
    data = await packed(database, PACKED_WITH_TIMES, TIMES[:count], X[:count], Y[:count], Z[:count])
    columns = unpacked_with_times(data)
    assert columns.times.tolist() == TIMES[:count]
    assert [values.tobytes() for values in columns.axes] == [np.array(own[:count]).tobytes() for own in (X, Y, Z)]


async def test_readings_are_put_in_order(database: Database) -> None:
    data = await packed(database, PACKED_WITH_TIMES, [2, 1, 1], [1.0, 2.0, -2.0], [0.0] * 3, [0.0] * 3)
    columns = unpacked_with_times(data)
    assert columns.times.tolist() == [1, 1, 2]
    assert columns.x.tolist() == [-2, 2, 1]
