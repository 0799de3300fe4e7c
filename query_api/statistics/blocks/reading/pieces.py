"""Pieces of a device's rows, each of a bounded number, in the order of the unique key.

Memory does not keep the values of all pieces. Those that are not kept are read again when some of them are needed.
"""

from collections.abc import Sequence
from typing import LiteralString, Protocol

import msgspec
import numpy as np

from query_api.statistics.blocks.layout import AXES, Floats
from query_api.statistics.blocks.packed import PACKED, unpacked
from shared.postgres import arrays
from shared.postgres.arrays import Moment
from shared.postgres.connections import Connection
from shared.readings.model import Microseconds

PIECE = 1 << 16
"""Readings of a piece: 1.6 MB in an answer of the server, which take some milliseconds to convert."""
KEPT = 2_000_000
"""Readings whose values are kept: 48 MB."""


class Unkept(Protocol):
    """Readings of one group, which can be read again."""

    async def read(self, connection: Connection) -> Sequence[Floats]:
        """Return x, y and z of all of them, in the snapshot of the read."""


class Piece(msgspec.Struct, frozen=True):
    """The rows behind the key `after` (time, x, y, z), up to the time `last`: at most `size` of them.

    In one snapshot it has the same rows whenever it is read.
    """

    device_id: int
    after: tuple[Microseconds, float, float, float]
    last: Microseconds
    size: int

    async def read(self, connection: Connection) -> Sequence[Floats]:
        """Return the x, y and z of the piece."""
        return (await read_piece(connection, self))[0]


_PIECE: LiteralString = f"""
    SELECT max(recorded_at), {PACKED} FROM (
        SELECT recorded_at, x, y, z FROM readings
        WHERE device_id = %(device_id)s AND recorded_at >= %(time)s AND recorded_at <= %(last)s
          AND (recorded_at, x, y, z) > (%(time)s, %(x)s::float8, %(y)s::float8, %(z)s::float8)
        ORDER BY recorded_at, x, y, z LIMIT %(size)s
    ) AS piece
"""  # noqa: S608  # constants


async def read_piece(connection: Connection, piece: Piece) -> tuple[Sequence[Floats], Piece | None]:
    """Return the x, y and z of the piece, and the piece behind it; None if it is the last one."""
    time, x, y, z = piece.after
    parameters = {
        "device_id": piece.device_id, "time": Moment(time), "x": x, "y": y, "z": z,
        "last": Moment(piece.last), "size": piece.size,
    }  # fmt: skip
    async with arrays.cursor(connection) as cursor:
        row = await (await cursor.execute(_PIECE, parameters, prepare=False)).fetchone()
    if row is None or row[0] is None:
        return [np.empty(0)] * len(AXES), None
    until, axes = row[0], unpacked(row[1])
    if len(axes[0]) < piece.size:
        return axes, None
    after = until, *(float(values[-1]) for values in axes)
    return axes, Piece(piece.device_id, after, piece.last, piece.size)
