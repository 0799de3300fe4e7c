"""Rows of readings as one bytea: x, y and z of each, and its time, in the binary format of their types.

PostgreSQL sends one bytea faster than an array for each column. Citus receives and sends each element of an array, but
a bytea as it is. Between the rows is NULL, which is nothing: Citus sends an empty bytea as '\\x', which a node whose
standard_conforming_strings is off reads as x.
"""

from typing import LiteralString

import numpy as np

from query_api.statistics.blocks.building import Columns
from query_api.statistics.blocks.layout import AXES, Floats
from shared.postgres.arrays import EPOCH

_AXES: LiteralString = "float8send(x) || float8send(y) || float8send(z)"
PACKED: LiteralString = f"string_agg({_AXES}, NULL)"
"""An aggregate of rows with x, y and z; NULL if there are none."""
PACKED_WITH_TIMES: LiteralString = f"string_agg(timestamptz_send(recorded_at) || {_AXES}, NULL)"
"""An aggregate of rows with recorded_at, x, y and z; NULL if there are none."""
_ROW = np.dtype([("time", ">i8"), ("axes", ">f8", len(AXES))])


def unpacked(data: bytes | None) -> tuple[Floats, Floats, Floats]:
    """Return x, y and z of PACKED, in the order of the rows."""
    x, y, z = np.frombuffer(data or b"", ">f8").reshape(-1, len(AXES)).T.astype(np.float64, order="C")
    return x, y, z


def unpacked_with_times(data: bytes | None) -> Columns:
    """Return the readings of PACKED_WITH_TIMES, in the order of time."""
    rows = np.frombuffer(data or b"", _ROW)
    return Columns.ordered(rows["time"].astype(np.int64) + EPOCH, *rows["axes"].T.astype(np.float64, order="C"))
