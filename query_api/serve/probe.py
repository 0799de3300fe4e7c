"""Check every few seconds, over a separate connection, whether the database responds."""

import asyncio

import psycopg

from shared.errors import DatabaseBusy, DatabaseError
from shared.postgres.connections import Pool
from shared.postgres.errors import diagnose
from shared.serving.schema_health import note_schema
from shared.serving.telemetry import Health

INTERVAL_S = 2.0
ANSWER_S = 6.0
"""Without a response within this time the database counts as unavailable."""


async def probe(database: Pool, health: Health, interval_s: float = INTERVAL_S) -> None:
    """Keep the health part "database" current until cancelled. `database`: a pool that nothing else uses."""
    while True:
        try:
            async with asyncio.timeout(ANSWER_S), database.connection() as connection:
                await note_schema(connection, health)
            health.ready("database")
        except TimeoutError:
            health.not_ready("database", "PostgreSQL does not respond")
        except (psycopg.Error, DatabaseError) as error:
            fault = diagnose(error)
            if not isinstance(fault, DatabaseBusy):  # a cancelled query says that PostgreSQL works
                health.not_ready("database", str(fault))
        await asyncio.sleep(interval_s)
