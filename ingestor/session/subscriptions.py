"""Topic filters that the broker session may be subscribed to, stored in the database (ADR 35).

UNSUBSCRIBE is sent only for these filters: rmqtt treats the plain and the shared subscription of a topic as one, and an
UNSUBSCRIBE of either ends it.

A row is never updated: `add` replaces it by a row with another `subscribed_at`, and `keep` deletes only rows that
`load` returned. The server may run the DELETE of an ingestor that lost its connection after another ingestor has taken
the session; that DELETE cannot remove a filter that the other has added.
"""

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import LiteralString

from ingestor.storing.database_connection import DatabaseConnection
from shared.postgres.connections import Connection

_LOAD = "SELECT topic_filter, subscribed_at FROM ingest_subscriptions WHERE client_id = %s"
_REPLACE: tuple[LiteralString, ...] = (
    "DELETE FROM ingest_subscriptions WHERE client_id = %s AND topic_filter = ANY (%s::text[])",
    """
    INSERT INTO ingest_subscriptions (client_id, topic_filter, subscribed_at)
    SELECT %s, unnest(%s::text[]), clock_timestamp() ON CONFLICT DO NOTHING
    """,
)
_REMOVE = """
    DELETE FROM ingest_subscriptions WHERE client_id = %s
    AND (topic_filter, subscribed_at) IN (SELECT * FROM unnest(%s::text[], %s::timestamptz[]))
"""


class Subscriptions:
    """The filters of one client id. Each method retries until the database is available."""

    def __init__(self, database: DatabaseConnection, client_id: str) -> None:
        self._database = database
        self._client_id = client_id
        self._loaded: dict[str, datetime] = {}

    async def load(self) -> frozenset[str]:
        """Return the filters; empty if the session is older than the table or was never subscribed."""
        self._loaded = await self._database.retry_forever(_load, self._client_id)
        return frozenset(self._loaded)

    async def add(self, patterns: Collection[str]) -> None:
        """Add filters, before their SUBSCRIBE; replace existing rows."""
        await self._database.retry_forever(_replace, self._client_id, list(patterns))

    async def keep(self, patterns: Collection[str]) -> None:
        """Remove all other loaded filters, after their UNSUBACK."""
        unwanted = {pattern: since for pattern, since in self._loaded.items() if pattern not in patterns}
        await self._database.retry_forever(_remove, self._client_id, unwanted)


async def _load(connection: Connection, client_id: str) -> dict[str, datetime]:
    return dict(await (await connection.execute(_LOAD, (client_id,))).fetchall())


async def _replace(connection: Connection, client_id: str, patterns: list[str]) -> None:
    async with connection.transaction():
        for statement in _REPLACE:
            await connection.execute(statement, (client_id, patterns))


async def _remove(connection: Connection, client_id: str, unwanted: Mapping[str, datetime]) -> None:
    await connection.execute(_REMOVE, (client_id, list(unwanted), list(unwanted.values())))
