"""Binary COPY, to and from numpy arrays.

https://www.postgresql.org/docs/current/sql-copy.html, "Binary Format": the header is a signature, flags and the length
of an extension. A row is the number of its fields; a field is its length and its value. The trailer is a count of -1.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray
from psycopg import AsyncCopy
from psycopg.abc import PQGen
from psycopg.errors import error_from_result
from psycopg.generators import fetch_many
from psycopg.pq import ExecStatus
from psycopg.pq.abc import PGconn
from psycopg.waiting import Wait

from shared.readings.model import to_microseconds

BLOCK_BYTES = 128 * 1024
"""Size of the blocks into which the rows of a COPY are combined."""
POSTGRES_EPOCH = to_microseconds(datetime(2000, 1, 1, tzinfo=UTC))
"""Epoch of a binary timestamptz, in microseconds since 1970."""
BIGINT, FLOAT8, TIMESTAMPTZ = ">i8", ">f8", ">i8"
HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
TRAILER = b"\xff\xff"
_COUNT, _LENGTH = "count", "length of "

Rows = NDArray[np.void]
"""Binary rows: a field for each column, in network byte order."""


async def next_block(copy: AsyncCopy, size: int = BLOCK_BYTES, begun: bytes = b"") -> tuple[bytes, bool]:
    """Return rows of about `size` bytes, and whether more may follow. Raises what `copy.read` raises.

    `begun`: data of an earlier COPY with which the block begins. The trailer of a binary COPY is in its last block.

    `copy.read` waits for each row, even for one that is here: that takes longer than PostgreSQL takes to write it.
    """
    return await copy.connection.wait(_block(copy.connection.pgconn, size, begun))


def _block(connection: PGconn, size: int, begun: bytes) -> PQGen[tuple[bytes, bool]]:
    """Read rows as `psycopg.generators.copy_from` reads one. Wait only if libpq has received no further row."""
    block = bytearray(begun)
    row: bytes | memoryview = b""
    while len(block) < size or row == TRAILER:
        length, data = connection.get_copy_data(1)
        if length > 0:
            row = data
            block += row
        elif length == 0:
            while not (yield Wait.R):
                continue
            connection.consume_input()
        else:
            yield from _end(connection)
            return bytes(block), False
    return bytes(block), True


def _end(connection: PGconn) -> PQGen[None]:
    """Read the result behind the last row. Raises the error that has ended the COPY."""
    for result in (yield from fetch_many(connection)):
        if result.status != ExecStatus.COMMAND_OK:
            raise error_from_result(result)


def row_type(columns: Mapping[str, str]) -> np.dtype[np.void]:
    """Return the type of a row. `columns`: their names and numpy types. No column is null."""
    fields: list[Any] = [(_COUNT, ">i2")]
    for name, kind in columns.items():
        fields += [(_LENGTH + name, ">i4"), (name, kind)]
    return np.dtype(fields)


def pack(kind: np.dtype[np.void], columns: NDArray[np.void]) -> bytes:
    """Return binary COPY data of the columns. `kind`: their `row_type`."""
    names = columns.dtype.names or ()
    rows = np.empty(len(columns), kind)
    rows[_COUNT] = len(names)
    for name in names:
        rows[_LENGTH + name] = kind[name].itemsize
        rows[name] = columns[name]
    return b"".join((HEADER, rows.data, TRAILER))


class BinaryRows:
    """Splits the data of a binary COPY into rows of equal size. No column is null."""

    def __init__(self, columns: Mapping[str, str]) -> None:
        self._type = row_type(columns)
        self._skip = len(HEADER)
        self._rest = b""

    @property
    def row_bytes(self) -> int:
        """Size of a row."""
        return self._type.itemsize

    def cut(self, block: bytes) -> Rows:
        """Return the rows that this block completes."""
        data = self._rest + block
        if len(data) < self._skip:
            self._rest = data
            return np.empty(0, self._type)
        start, self._skip = self._skip, 0
        count = (len(data) - start) // self._type.itemsize
        end = start + count * self._type.itemsize
        self._rest = data[end:]
        return np.frombuffer(data[start:end], self._type)


def microseconds(moments: NDArray[Any]) -> NDArray[np.int64]:
    """Return a column of timestamptz in microseconds since 1970."""
    return moments.astype(np.int64) + POSTGRES_EPOCH
