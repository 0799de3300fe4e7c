"""Results of queued analyses: listed, found, deleted. A claim's `finish` writes them."""

import msgspec
from psycopg.rows import dict_row

from query_api.ids import is_id
from query_api.queue.records import AnalysisResult
from shared.event_loop.parts import mapped_rows
from shared.postgres.connections import Connection

_SELECT = """
    SELECT id, request_id, device_id, "start", "end", x, y, z, created_at FROM analysis_results
    WHERE device_id = %(device_id)s AND id < %(before)s
    ORDER BY id DESC
    LIMIT %(limit)s
"""


async def select(connection: Connection, device_id: int, before: int, limit: int) -> list[AnalysisResult]:
    """Return the device's results with ids below `before`, newest first."""
    async with connection.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(_SELECT, {"device_id": device_id, "before": before, "limit": limit})
        return await mapped_rows(cursor, lambda row: msgspec.convert(row, AnalysisResult))


_FIND = """
    SELECT id, request_id, device_id, "start", "end", x, y, z, created_at FROM analysis_results
    WHERE id = %(id)s AND device_id = %(device_id)s AND EXISTS (SELECT FROM devices WHERE devices.id = device_id)
"""


async def find(connection: Connection, device_id: int, result_id: int) -> AnalysisResult | None:
    """Return the device's result with this id; None if it has none."""
    if not (is_id(device_id) and is_id(result_id)):
        return None
    async with connection.cursor(row_factory=dict_row) as cursor:
        row = await (await cursor.execute(_FIND, {"id": result_id, "device_id": device_id})).fetchone()
        return None if row is None else msgspec.convert(row, AnalysisResult)


_DELETE = """
    DELETE FROM analysis_results
    WHERE id = %(id)s AND device_id = %(device_id)s AND EXISTS (SELECT FROM devices WHERE devices.id = device_id)
"""


async def delete(connection: Connection, device_id: int, result_id: int) -> bool:
    """Delete the device's result with this id; False if it has none."""
    if not (is_id(device_id) and is_id(result_id)):
        return False
    return (await connection.execute(_DELETE, {"id": result_id, "device_id": device_id})).rowcount == 1
