"""COPY in its binary format, to and from numpy arrays, and what COPY sends in blocks.

https://www.postgresql.org/docs/current/sql-copy.html, "Binary Format": a header of a signature, flags and the length of
an extension. Each row is the count of its fields; each field is its length and its value. The end is a count of -1.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray
from psycopg import AsyncCopy

from shared.readings.model import to_microseconds

BLOCK_BYTES = 64 * 1024
"""COPY brings a row at a time; they are handed on in blocks of this size."""
POSTGRES_EPOCH = to_microseconds(datetime(2000, 1, 1, tzinfo=UTC))
"""What a binary timestamptz counts from, in microseconds since 1970."""
BIGINT, FLOAT8, TIMESTAMPTZ = ">i8", ">f8", ">i8"
_HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_TRAILER = b"\xff\xff"
_COUNT, _LENGTH = "count", "length of "

Rows = NDArray[np.void]
"""Binary rows: a field for each column, in the byte order of the network."""


async def next_block(copy: AsyncCopy, size: int = BLOCK_BYTES) -> tuple[bytes, bool]:
    """The rows up to a block's size, and whether more may follow."""
    block = bytearray()
    while len(block) < size:
        row = await copy.read()
        if not row:
            return bytes(block), False
        block += row
    return bytes(block), True


def row_type(columns: Mapping[str, str]) -> np.dtype[np.void]:
    """Return the type of a row of these columns, of which none is null: their names and their types in numpy."""
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
    return b"".join((_HEADER, rows.data, _TRAILER))


class BinaryRows:
    """Cuts what a binary COPY sends into rows, which are all of one size: no column is null."""

    def __init__(self, columns: Mapping[str, str]) -> None:
        self._type = row_type(columns)
        self._skip = len(_HEADER)
        self._rest = b""

    @property
    def row_bytes(self) -> int:
        """How long a row is."""
        return self._type.itemsize

    def cut(self, block: bytes) -> Rows:
        """The rows that are whole with this block."""
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
    """A column of timestamptz as microseconds since 1970."""
    return moments.astype(np.int64) + POSTGRES_EPOCH
