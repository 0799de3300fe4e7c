"""Storage of readings. No other module writes them.

`store_new` stores a batch of new readings by one binary COPY. `store` stores any batch: by COPY into a temporary table,
then INSERT … ON CONFLICT DO NOTHING, or by a function if some of its readings are late. `store_unstaged` always calls
that function. `store_requests` stores the readings of HTTP requests, and returns their ids.

Each copies late readings to late_readings in the same transaction (`announcements.py`): the first two by the
announcements that their caller learned at the fence; `store_requests` passes the fence itself.

Each needs `shared.readings.partitions.Partitions.ensure` first.
"""

from collections.abc import Iterable, Sequence
from itertools import accumulate, pairwise
from typing import LiteralString

import msgspec
import numpy as np
from numpy.typing import NDArray

from shared.postgres import arrays
from shared.postgres.arrays import Bigints, Floats, Integers, Moments
from shared.postgres.connections import Connection
from shared.postgres.distribution import is_distributed
from shared.readings import binary_copy
from shared.readings.announcements import Announcements
from shared.readings.model import Reading
from shared.readings.rows import FIELDS, Column, Rows


class Stored(msgspec.Struct, frozen=True):
    """The result of a batch: how many rows are new, and how many readings were stored before."""

    stored: int
    duplicates: int


_CREATE_STAGING = """
    CREATE TEMPORARY TABLE IF NOT EXISTS staging (
        device_id bigint, recorded_at timestamptz, received_at timestamptz, x float8, y float8, z float8
    ) ON COMMIT DELETE ROWS
"""
_COPY_STRAIGHT = "COPY readings (device_id, recorded_at, received_at, x, y, z) FROM STDIN (FORMAT BINARY)"
_COPY_LATE = "COPY late_readings (device_id, recorded_at, x, y, z) FROM STDIN (FORMAT BINARY)"
_COPY = "COPY staging FROM STDIN (FORMAT BINARY)"
# In the order of the unique index: two writers with the same readings insert them in one order, so they cannot
# deadlock. It is also the order of the index's pages.
_INSERT = """
    INSERT INTO readings (device_id, recorded_at, received_at, x, y, z)
    SELECT device_id, recorded_at, received_at, x, y, z FROM staging
    ORDER BY device_id, recorded_at, x, y, z
    ON CONFLICT DO NOTHING
"""
# On Citus the statement's own count is that of the rows that were sent to the nodes. RETURNING names no column, as the
# ingestor may not read readings.
_INSERT_COUNTED = f"WITH added AS ({_INSERT} RETURNING 1) SELECT count(*) FROM added"  # noqa: S608  # constants
_CLEAR = "TRUNCATE staging"

_MOMENTS = ("recorded_at", "received_at")
_BIG_ENDIAN = {name: f">{kind}" for name, kind in FIELDS.items()}
_COPY_ROW = binary_copy.row_type(_BIG_ENDIAN)
_COPY_LATE_ROW = binary_copy.row_type({name: kind for name, kind in _BIG_ENDIAN.items() if name != "received_at"})


async def prepare(connection: Connection) -> None:
    """Prepare the connection for `store`. Needed once for each connection."""
    await connection.execute(_CREATE_STAGING)


async def store_new(connection: Connection, readings: Sequence[Reading], announcements: Announcements) -> Stored:
    """Store a batch in the caller's transaction, at half to two thirds of the cost of `store`.

    Raises UniqueViolation if one of the readings was stored before, or is in the batch twice. Raises DeadlockDetected
    if another transaction stores the same readings in another order.
    """
    if readings:
        columns = _by_device(Rows.of(readings).columns())
        await _copy(connection, _COPY_STRAIGHT, _packed(columns, _COPY_ROW))
        is_late = announcements.late(columns)
        if is_late is not None:
            await _copy(connection, _COPY_LATE, _packed(columns[is_late], _COPY_LATE_ROW))
    return Stored(len(readings), 0)


def _by_device(columns: Column) -> Column:
    """Return the readings in the order of their devices, those of a device in the given order.

    Neighbours in the index are then inserted together. That costs the database up to a quarter less CPU time.
    """
    devices = columns["device_id"]
    if (devices[1:] >= devices[:-1]).all():
        return columns
    return columns[np.argsort(devices, kind="stable")]


async def store(connection: Connection, readings: Sequence[Reading], announcements: Announcements) -> Stored:
    """Store a batch in the caller's transaction. `clear` must precede another batch in it."""
    if not readings:
        return Stored(0, 0)
    columns = Rows.of(readings).columns()
    if announcements.late(columns) is None:
        await _copy(connection, _COPY, _packed(columns, _COPY_ROW))
        stored = await _insert_staged(connection)
    else:
        stored = await _store_some_late(connection, columns)
    return Stored(stored, len(readings) - stored)


async def _insert_staged(connection: Connection) -> int:
    """Insert the staged readings, and return the number of new ones."""
    if not await is_distributed(connection):
        return (await connection.execute(_INSERT)).rowcount
    row = await (await connection.execute(_INSERT_COUNTED)).fetchone()
    assert row is not None, "an aggregate has one row"
    return int(row[0])


async def store_unstaged(connection: Connection, readings: Sequence[Reading]) -> Stored:
    """Store a batch as `store` does, on a connection without `prepare`. It takes longer.

    The database finds out which readings are late.
    """
    if not readings:
        return Stored(0, 0)
    stored = await _store_some_late(connection, Rows.of(readings).columns())
    return Stored(stored, len(readings) - stored)


async def _copy(connection: Connection, statement: LiteralString, data: bytes) -> None:
    async with connection.cursor() as cursor, cursor.copy(statement) as copy:
        await copy.write(data)


_STORE_LATE = "SELECT store_late_readings(%s, %s, %s, %s, %s, %s)"


async def _store_some_late(connection: Connection, columns: Column) -> int:
    """Store readings of which some may be late, and some may be stored already; return the number of new ones."""
    async with arrays.cursor(connection) as cursor:
        row = await (await cursor.execute(_STORE_LATE, _arrays_of(columns))).fetchone()
    assert row is not None, "the function returns one number"
    return int(row[0])


def _arrays_of(columns: Column) -> tuple[object, ...]:
    """Return the columns of readings as parameters, in the order of their fields."""
    return (
        Bigints(columns["device_id"]), Moments(columns["recorded_at"]), Moments(columns["received_at"]),
        Floats(columns["x"]), Floats(columns["y"]), Floats(columns["z"]),
    )  # fmt: skip


async def clear(connection: Connection) -> None:
    """Prepare the connection for another `store` in one transaction. The end of the transaction clears by itself."""
    await connection.execute(_CLEAR)


def pack(readings: Iterable[Reading]) -> bytes:
    """Return the readings as binary COPY data."""
    return _packed(Rows.of(readings).columns(), _COPY_ROW)


def _packed(columns: Column, kind: np.dtype[np.void]) -> bytes:
    columns = columns.copy()
    for name in _MOMENTS:
        columns[name] -= binary_copy.POSTGRES_EPOCH
    names = [name for name in FIELDS if name in (kind.names or ())]
    return binary_copy.pack(kind, columns[names])


class StoredIds(msgspec.Struct, frozen=True):
    """The id of each reading of a request, or of the equal reading that was stored before."""

    ids: NDArray[np.int64]
    is_new: NDArray[np.bool_]

    def of(self, request: slice) -> "StoredIds | None":
        """Return the part of these readings; None if they were not stored."""
        ids = self.ids[request]
        return StoredIds(ids, self.is_new[request]) if ids.all() else None


# In place of the null id of a reading that is not stored: 0, which no reading has.
_STORE_REQUESTS = """
    SELECT array_replace(ids, NULL, 0::bigint), added
    FROM store_readings(%s::integer[], %s::bigint[], %s::timestamptz[], %s::timestamptz[],
                        %s::float8[], %s::float8[], %s::float8[])
"""


async def store_requests(connection: Connection, requests: Sequence[Sequence[Reading]]) -> list[StoredIds | None]:
    """Store the readings of several requests, and return their ids, in order.

    A request is stored whole or, if it names an unknown device, not at all: its result is None. On an error no request
    is stored.
    """
    rows = Rows.joined(requests)
    columns = rows.columns()
    counts = [len(request) for request in requests]
    parameters = Integers(np.repeat(np.arange(len(requests)), counts)), *_arrays_of(columns)
    async with arrays.cursor(connection) as cursor:
        row = await (await cursor.execute(_STORE_REQUESTS, parameters, prepare=True)).fetchone()
    assert row is not None, "the function returns one row"
    ids, added = row
    stored = StoredIds(ids, _are_new(ids, added))
    return [stored.of(slice(start, end)) for start, end in pairwise(accumulate(counts, initial=0))]


def _are_new(ids: NDArray[np.int64], added: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return whether each id is new. A repeat, in its request or in a later one, is not new."""
    if len(added) == len(ids):
        return np.ones(len(ids), bool)
    is_first = np.zeros(len(ids), bool)
    is_first[np.unique(ids, return_index=True)[1]] = True
    return is_first & np.isin(ids, added)
