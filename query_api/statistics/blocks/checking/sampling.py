"""A block that is drawn at random."""

import random

from query_api.statistics.blocks.building import Key
from shared.postgres import arrays
from shared.postgres.connections import Connection
from shared.postgres.distribution import is_distributed

TRIES = 20
"""Pages of the table that are looked at. Deleted blocks leave empty pages."""
_PAGES = "SELECT pg_relation_size('blocks') / current_setting('block_size')::bigint"
_ON_PAGE = """
    SELECT device_id, level, first FROM blocks WHERE ctid >= %s::tid AND ctid < %s::tid ORDER BY random() LIMIT 1
"""
# On a Citus cluster, a block of a device that is drawn at random: the coordinator has no page of `blocks`.
_DEVICE = """
    WITH known AS MATERIALIZED (SELECT device_id FROM sealed_devices WHERE sealed > '-infinity')
    SELECT device_id FROM known
    OFFSET floor(random() * (SELECT count(*) FROM known)) LIMIT 1
"""
_OF_DEVICE = "SELECT device_id, level, first FROM blocks WHERE device_id = %s ORDER BY random() LIMIT 1"


async def any_block(connection: Connection) -> Key | None:
    """Return a block of any level and device; None if there is none. A page has one block, or few.

    The time that it takes does not depend on the number of blocks.
    """
    if await is_distributed(connection):
        return await _any_block_of_a_device(connection)
    (pages,) = await (await connection.execute(_PAGES)).fetchone() or (0,)
    async with arrays.cursor(connection) as cursor:
        for _ in range(TRIES if pages else 0):
            page = random.randrange(pages)  # noqa: S311  # no secret
            row = await (await cursor.execute(_ON_PAGE, (f"({page},0)", f"({page + 1},0)"))).fetchone()
            if row is not None:
                return Key(*row)
    return None


async def _any_block_of_a_device(connection: Connection) -> Key | None:
    async with arrays.cursor(connection) as cursor:
        device = await (await cursor.execute(_DEVICE)).fetchone()
        row = None if device is None else await (await cursor.execute(_OF_DEVICE, device)).fetchone()
    return None if row is None else Key(*row)
