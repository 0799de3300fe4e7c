"""The topic filters that the broker session may be subscribed to, in the database (ADR 35).

An UNSUBSCRIBE is sent only for such a filter. Nothing is sent for a filter that the session never had: rmqtt keeps a
plain subscription and the shared one of the same topic as one, and ends it at an UNSUBSCRIBE of either.
"""

from collections.abc import Collection
from functools import partial
from typing import LiteralString

from ingestor.database_connection import DatabaseConnection
from shared.database import Connection

_LOAD = "SELECT topic_filter FROM ingest_subscriptions WHERE client_id = %s"
_ADD = """
    INSERT INTO ingest_subscriptions (client_id, topic_filter) SELECT %s, unnest(%s::text[]) ON CONFLICT DO NOTHING
"""
_KEEP = "DELETE FROM ingest_subscriptions WHERE client_id = %s AND topic_filter <> ALL (%s::text[])"


class Subscriptions:
    """The filters of one client id. Each method waits for the database as long as it is away."""

    def __init__(self, database: DatabaseConnection, client_id: str) -> None:
        self._database = database
        self._client_id = client_id

    async def load(self) -> frozenset[str]:
        """Return the filters; none where the session is older than the table, or was never subscribed."""
        return await self._database.persevere(self._load)

    async def add(self, patterns: Collection[str]) -> None:
        """Add filters, before their SUBSCRIBE."""
        await self._database.persevere(partial(self._execute, _ADD, list(patterns)))

    async def keep(self, patterns: Collection[str]) -> None:
        """Remove all other filters, after their UNSUBACK."""
        await self._database.persevere(partial(self._execute, _KEEP, list(patterns)))

    async def _load(self, connection: Connection) -> frozenset[str]:
        cursor = await connection.execute(_LOAD, (self._client_id,))
        return frozenset(pattern for (pattern,) in await cursor.fetchall())

    async def _execute(self, statement: LiteralString, patterns: list[str], connection: Connection) -> None:
        await connection.execute(statement, (self._client_id, patterns))
