"""Deletion of the blocks of a deleted device, and of those of a month that retention drops, in steps."""

from datetime import UTC, datetime, timedelta
from typing import Any

from shared.postgres.connections import Connection
from shared.postgres.distribution import is_distributed

_UNSEAL = b"DELETE FROM sealed_devices WHERE device_id = %s"
# On a Citus cluster: by keys, as a row of a shard has no ctid on the coordinator.
_KEYS = {
    "late_readings": "recorded_at, x, y, z",
    "block_columns": "level, first, axis",
    "block_values": "level, first, axis",
    "blocks": "level, first",
}
TABLES = tuple(_KEYS)
"""The tables that contain sealed or late readings of a device."""
LATE_AT_ONCE = 10_000
"""Late readings that one step deletes. Their rows are small, unlike those of blocks."""
_DELETE_LATE, *_DELETE = (
    f"""
        DELETE FROM {table}
        WHERE ctid = ANY(ARRAY(SELECT ctid FROM {table} WHERE device_id = %(device_id)s LIMIT %(limit)s))
    """.encode()  # noqa: S608  # constants
    for table in _KEYS
)
_DELETE_LATE_OF_NODE, *_DELETE_OF_NODE = (
    f"""
        DELETE FROM {table} WHERE device_id = %(device_id)s
        AND ({keys}) IN (SELECT {keys} FROM {table} WHERE device_id = %(device_id)s LIMIT %(limit)s)
    """.encode()  # noqa: S608  # constants
    for table, keys in _KEYS.items()
)


async def retire_device(connection: Connection, device_id: int, limit: int) -> int:
    """Delete some blocks and late readings of a deleted device, in the caller's transaction; return how many rows.

    The row of sealed_devices goes first: that waits for a worker that seals the device, and stops every later one.
    """
    await retire(connection, device_id)
    return await delete_blocks(connection, device_id, limit)


async def retire(connection: Connection, device_id: int) -> int:
    """Delete the device's row of sealed_devices; return the number of rows."""
    return (await connection.execute(_UNSEAL, (device_id,))).rowcount


async def delete_blocks(connection: Connection, device_id: int, limit: int) -> int:
    """Delete LATE_AT_ONCE late readings, or up to `limit` rows of one table of blocks; return how many rows."""
    late, blocks = _DELETE_LATE, _DELETE
    if await is_distributed(connection):
        late, blocks = _DELETE_LATE_OF_NODE, _DELETE_OF_NODE
    for statement, most in ((late, LATE_AT_ONCE), *((each, limit) for each in blocks)):
        if deleted := (await connection.execute(statement, {"device_id": device_id, "limit": most})).rowcount:
            return deleted
    return 0


PAGES_AT_ONCE = 1_000
"""Pages of a table that one step looks at: 8 MB."""
BLOCKS_AT_ONCE = 20
"""Blocks of a month that one step deletes. The values of a large block take 67 MB."""
# The pages are read in order. A row that a worker writes behind a step is left to drop_readings_month.
_CHOSEN = """
    WITH chosen AS MATERIALIZED (
        SELECT ctid FROM {table}
        WHERE ctid >= %(page)s::tid AND ctid < %(behind)s::tid AND {time} >= %(starts)s AND {time} < %(ends)s
        LIMIT %(most)s
    ), gone AS (
        DELETE FROM {table} WHERE ctid = ANY(ARRAY(SELECT ctid FROM chosen)) RETURNING {table}.*
    ){parts}
    SELECT count(*), (max(ctid)::text::point)[0]::bigint,
           pg_relation_size('{table}') / current_setting('block_size')::bigint FROM chosen
"""
_PARTS = ", ".join(
    f"""
    no_{table} AS (
        DELETE FROM {table} AS stored USING gone
        WHERE stored.device_id = gone.device_id AND stored.level = gone.level AND stored.first = gone.first
    )"""  # noqa: S608  # constants
    for table in ("block_values", "block_columns")
)
_SOME_BLOCKS = _CHOSEN.format(table="blocks", time="first", parts=f", {_PARTS}").encode()
_SOME_LATE = _CHOSEN.format(table="late_readings", time="recorded_at", parts="").encode()


async def delete_month(
    connection: Connection,
    name: str,
    blocks: int = BLOCKS_AT_ONCE,
    late: int = LATE_AT_ONCE,
    pages: int = PAGES_AT_ONCE,
) -> None:
    """Delete blocks and late readings of a month in steps, each a transaction. `name`: of its table.

    The table was noted in retiring_months and then detached, so that no later snapshot uses them. A worker that changes
    one of the blocks meanwhile fails with a serialization error. `drop_readings_month` deletes what is left.

    `blocks`, `late`, `pages`: the most of one step. On a Citus cluster a step deletes those of one device.
    """
    starts = datetime.strptime(name[-len("2026_01") :], "%Y_%m").replace(tzinfo=UTC)
    ends = (starts + timedelta(days=31)).replace(day=1)
    if await is_distributed(connection):
        await _delete_by_device(connection, starts, ends)
        return
    for statement, most in ((_SOME_BLOCKS, blocks), (_SOME_LATE, late)):
        page: int | None = 0
        while page is not None:
            page = await _delete_some(
                connection, statement, page, {"starts": starts, "ends": ends, "most": most, "pages": pages}
            )


DEVICES_AT_ONCE = 1_000
"""Devices that are looked up at once."""
_DEVICES = """
    SELECT device_id FROM device_extents WHERE device_id > %s AND starts_at < %s AND ends_at > %s
    ORDER BY device_id LIMIT %s
"""
_DELETE_OF_MONTH = tuple(
    f"DELETE FROM {table} WHERE device_id = %s AND {time} >= %s AND {time} < %s".encode()  # noqa: S608  # constants
    for table, time in {name: "recorded_at" if name == "late_readings" else "first" for name in _KEYS}.items()
)


async def _delete_by_device(connection: Connection, starts: datetime, ends: datetime) -> None:
    after = 0
    while devices := await (await connection.execute(_DEVICES, (after, ends, starts, DEVICES_AT_ONCE))).fetchall():
        for (device,) in devices:
            async with connection.transaction():
                for statement in _DELETE_OF_MONTH:
                    await connection.execute(statement, (device, starts, ends))
        after = devices[-1][0]


async def _delete_some(connection: Connection, statement: bytes, page: int, limits: dict[str, Any]) -> int | None:
    """Delete rows from a page of the table on; return the page of the next step, None if this is the last one."""
    behind = page + limits["pages"]
    parameters = limits | {"page": f"({page},0)", "behind": f"({behind},0)"}
    row = await (await connection.execute(statement, parameters, prepare=False)).fetchone()
    assert row is not None, "an aggregate has one row"
    found, last_page, all_pages = row
    if found == limits["most"]:
        return int(last_page)
    return behind if behind < all_pages else None
