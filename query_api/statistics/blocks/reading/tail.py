"""The readings that are not sealed: rows, in pieces of bounded size.

Where the worker has sealed what it can, an item has one short piece. The first pieces of all items are read together,
and are shorter if there are many. Where it has not, as after an upgrade, the values of further pieces are not kept:
each piece is sorted, added up and dropped, and read again if some of its values are needed.
"""

from functools import partial
from typing import Any, LiteralString

import numpy as np

from query_api.statistics.blocks.computing import computed
from query_api.statistics.blocks.layout import AXES, Ints, Layout, Times
from query_api.statistics.blocks.packed import PACKED, unpacked
from query_api.statistics.blocks.reading import shards
from query_api.statistics.blocks.reading.cover import Covered
from query_api.statistics.blocks.reading.gathered import Gathered
from query_api.statistics.blocks.reading.items import Items
from query_api.statistics.blocks.reading.pieces import KEPT, PIECE, Piece, read_piece
from shared.postgres import arrays
from shared.postgres.arrays import Bigints, Moment, Moments
from shared.postgres.connections import Connection
from shared.postgres.distribution import is_distributed

# The bounds that are the statement's own parameters leave the other months out of its plan.
_PIECE = f"""
    SELECT max(recorded_at), {PACKED} FROM (
        SELECT recorded_at, x, y, z FROM readings
        WHERE readings.device_id = {{device}} AND recorded_at >= %(first)s AND recorded_at <= %(last)s {{period}}
        ORDER BY recorded_at, x, y, z LIMIT %(piece)s
    ) AS piece
"""  # noqa: S608  # constants
_ONE = _PIECE.format(device="%(device)s", period="")
_PERIOD: LiteralString = "AND recorded_at >= item.starts AND recorded_at <= item.ends"
_FIRST_PIECE = f"SELECT 0, piece.* FROM ({_ONE}) AS piece".encode()  # noqa: S608  # constants
_FIRST_PIECES, _FIRST_PIECES_OF_SHARD = (
    f"""
    SELECT item.number - 1, tail.*
    FROM unnest(%(devices)s::bigint[], %(starts)s::timestamptz[], %(ends)s::timestamptz[]) WITH ORDINALITY
         AS item (device_id, starts, ends, number)
    CROSS JOIN LATERAL ({_PIECE.format(device="item.device_id", period=_PERIOD + of_shard)}) AS tail
    ORDER BY item.number
    """.encode()  # noqa: S608  # constants
    for of_shard in ("", f" {shards.of_devices('readings')}")
)


async def read_tails(
    connection: Connection,
    items: Items,
    covered: Covered,
    gathered: Gathered,
    layout: Layout,
    piece: int = PIECE,
    kept: int = KEPT,
) -> None:
    """Add the readings of each item that no block contains. `piece`, `kept`: numbers of readings."""
    starts = np.maximum(items.starts, covered.sealed)
    chosen = np.flatnonzero(starts <= items.ends)
    if len(chosen) == 0:
        return
    devices, starts, ends = items.devices[chosen], starts[chosen], items.ends[chosen]
    first = max(int(starts.min()), int(covered.first[chosen].min()))
    last = min(int(ends.max()), int(covered.last[chosen].max()))
    if first > last:
        return
    most = max(1, min(piece, kept // len(chosen)))
    parameters: dict[str, Any] = {"first": Moment(first), "last": Moment(last), "piece": most}
    rows: list[tuple[Any, ...]] = []
    for places in await shards.by_shard(connection, devices):
        one = devices[places], starts[places], ends[places]
        rows += [(int(places[number]), *rest) for number, *rest in await _first_pieces(connection, *one, parameters)]
    for number, until, packed in rows:
        if until is None:
            continue
        axes = unpacked(packed)
        group = int(items.groups[chosen[number]])
        gathered.add_readings(group, axes)
        if len(axes[0]) == most:
            after = until, *(float(values[-1]) for values in axes)
            rest = Piece(int(devices[number]), after, min(int(ends[number]), last), piece)
            await _read_rest(connection, group, rest, gathered, layout, kept)


async def _first_pieces(
    connection: Connection, devices: Ints, starts: Times, ends: Times, parameters: dict[str, Any]
) -> list[Any]:
    """Return the first piece of each item after its place: the time of its last row, and PACKED."""
    if len(devices) == 1:
        statement = _FIRST_PIECE  # planned in a third of the time
        first, last = max(parameters["first"].value, int(starts[0])), min(parameters["last"].value, int(ends[0]))
        parameters = parameters | {"device": int(devices[0]), "first": Moment(first), "last": Moment(last)}
    else:
        statement = _FIRST_PIECES_OF_SHARD if await is_distributed(connection) else _FIRST_PIECES
        parameters = parameters | {"devices": Bigints(devices), "starts": Moments(starts), "ends": Moments(ends)}
    async with arrays.cursor(connection) as cursor:
        return await arrays.fetch(await cursor.execute(statement, parameters, prepare=False))


async def _read_rest(
    connection: Connection, group: int, rest: Piece, gathered: Gathered, layout: Layout, kept: int
) -> None:
    """Add the pieces from this one on."""
    following: Piece | None = rest
    while following is not None:
        own = following
        axes, following = await read_piece(connection, own)
        if gathered.kept < kept:
            gathered.add_readings(group, axes)
        else:
            add = partial(gathered.add_piece, group, own, axes, layout)
            await computed(len(AXES) * len(axes[0]), add)
