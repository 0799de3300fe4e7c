"""numpy arrays as parameters and results of statements, without a Python object for each element.

`cursor` returns a cursor that takes `Integers`, `Bigints`, `Floats`, `Moments` and `Moment` as parameters, and returns
columns of these types as numpy arrays and as int. A moment is a number of microseconds since 1970.

The binary format of an array is not documented; array_send in src/backend/utils/adt/arrayfuncs.c writes it: the number
of dimensions, a flag for nulls, the type of the elements, length and lower bound of each dimension, and each element
after its length.
"""

import asyncio
from typing import Any, ClassVar
from weakref import WeakSet

import msgspec
import numpy as np
from numpy.typing import NDArray
from psycopg import AsyncCursor
from psycopg.adapt import AdaptersMap, Dumper, Loader
from psycopg.pq import Format

from shared.postgres.connections import Connection

EPOCH = 946_684_800_000_000
"""What PostgreSQL counts from, 2000-01-01, in microseconds since 1970."""
EARLIEST = EPOCH - (1 << 63)
"""-infinity, as a moment."""
LATEST = 1 << 62
"""A moment after each reading."""
_HEADER_BYTES, _EMPTY_BYTES = 20, 12
_BIGINT, _INTEGER, _FLOAT8, _TIMESTAMPTZ = 20, 23, 701, 1184
_ARRAYS = {_BIGINT: 1016, _INTEGER: 1007, _FLOAT8: 1022, _TIMESTAMPTZ: 1185}
FETCH_ROWS = 100
"""Rows of several arrays each that are converted at once, in some milliseconds."""
_ADAPTED: WeakSet[Connection] = WeakSet()
"""Connections on which `cursor` has registered the types."""


class Integers(msgspec.Struct, frozen=True):
    """A parameter of type integer[]."""

    values: NDArray[np.int64]


class Bigints(msgspec.Struct, frozen=True):
    """A parameter of type bigint[]."""

    values: NDArray[np.int64]


class Floats(msgspec.Struct, frozen=True):
    """A parameter of type float8[]."""

    values: NDArray[np.float64]


class Moments(msgspec.Struct, frozen=True):
    """A parameter of type timestamptz[]."""

    values: NDArray[np.int64]


class Moment(msgspec.Struct, frozen=True):
    """A parameter of type timestamptz."""

    value: int


def cursor(connection: Connection) -> AsyncCursor[Any]:
    """Return a cursor with binary results."""
    return adapted(connection).cursor(binary=True)


def adapted(connection: Connection) -> Connection:
    """Return the connection, of which every cursor takes the types of this module as parameters."""
    if connection not in _ADAPTED:
        adapt(connection.adapters)  # only cursors with binary results use these loaders
        _ADAPTED.add(connection)
    return connection


async def fetch(cursor: AsyncCursor[Any]) -> list[Any]:
    """Return all rows of the result. Other tasks run after every FETCH_ROWS of them."""
    rows: list[Any] = []
    while some := await cursor.fetchmany(FETCH_ROWS):
        rows += some
        await asyncio.sleep(0)
    return rows


def adapt(adapters: AdaptersMap) -> None:
    """Register the types of this module."""
    for kind, dumper in _DUMPERS.items():
        adapters.register_dumper(kind, dumper)
    for oid, loader in _LOADERS.items():
        adapters.register_loader(oid, loader)


def _element(kind: str) -> np.dtype[np.void]:
    return np.dtype([("length", ">i4"), ("value", kind)])


class _ArrayDumper(Dumper):
    format = Format.BINARY
    element: ClassVar[int]
    kind: ClassVar[str]
    epoch: ClassVar[int] = 0

    def dump(self, obj: Integers | Bigints | Floats | Moments) -> bytes:
        count = len(obj.values)
        if count == 0:
            return np.array([0, 0, self.element], ">i4").tobytes()
        elements = np.empty(count, _element(self.kind))
        elements["length"] = elements.dtype["value"].itemsize
        elements["value"] = obj.values - self.epoch if self.epoch else obj.values
        return np.array([1, 0, self.element, count, 1], ">i4").tobytes() + elements.tobytes()


class _IntegersDumper(_ArrayDumper):
    element, oid, kind = _INTEGER, _ARRAYS[_INTEGER], ">i4"


class _BigintsDumper(_ArrayDumper):
    element, oid, kind = _BIGINT, _ARRAYS[_BIGINT], ">i8"


class _FloatsDumper(_ArrayDumper):
    element, oid, kind = _FLOAT8, _ARRAYS[_FLOAT8], ">f8"


class _MomentsDumper(_ArrayDumper):
    element, oid, kind, epoch = _TIMESTAMPTZ, _ARRAYS[_TIMESTAMPTZ], ">i8", EPOCH


class _MomentDumper(Dumper):
    format = Format.BINARY
    oid = _TIMESTAMPTZ

    def dump(self, obj: Moment) -> bytes:
        return (obj.value - EPOCH).to_bytes(8, "big", signed=True)


class _ArrayLoader(Loader):
    format = Format.BINARY
    kind: ClassVar[str]
    native: ClassVar[str]

    def load(self, data: Any) -> NDArray[Any]:
        if len(data) == _EMPTY_BYTES:
            return np.empty(0, self.native)
        elements = np.frombuffer(bytes(data), _element(self.kind), offset=_HEADER_BYTES)
        return elements["value"].astype(self.native)


class _BigintsLoader(_ArrayLoader):
    kind, native = ">i8", "i8"


class _IntegersLoader(_ArrayLoader):
    kind, native = ">i4", "i8"


class _FloatsLoader(_ArrayLoader):
    kind, native = ">f8", "f8"


class _MomentsLoader(_ArrayLoader):
    kind, native = ">i8", "i8"

    def load(self, data: Any) -> NDArray[Any]:
        return super().load(data) + EPOCH


class _MomentLoader(Loader):
    format = Format.BINARY

    def load(self, data: Any) -> int:
        return int.from_bytes(bytes(data), "big", signed=True) + EPOCH


_DUMPERS: dict[type, type[Dumper]] = {
    Integers: _IntegersDumper, Bigints: _BigintsDumper, Floats: _FloatsDumper, Moments: _MomentsDumper,
    Moment: _MomentDumper,
}  # fmt: skip
_LOADERS: dict[int, type[Loader]] = {
    _ARRAYS[_BIGINT]: _BigintsLoader, _ARRAYS[_FLOAT8]: _FloatsLoader, _ARRAYS[_TIMESTAMPTZ]: _MomentsLoader,
    _ARRAYS[_INTEGER]: _IntegersLoader, _TIMESTAMPTZ: _MomentLoader,
}  # fmt: skip
