"""Check of the schema version in a running service: a later version may have migrated the database."""

from shared.errors import SchemaTooNew, SchemaTooOld
from shared.postgres.connections import Connection
from shared.postgres.migrate import check_schema
from shared.serving.telemetry import Health

_PART = "schema"


async def note_schema(connection: Connection, health: Health) -> None:
    """Report the service as not ready while the schema has another version.

    The service continues its work, so nothing is lost between `devicestat migrate` and its restart. Raises
    DatabaseError.
    """
    try:
        await check_schema(connection)
    except (SchemaTooNew, SchemaTooOld) as error:
        health.not_ready(_PART, str(error))
    else:
        if _PART in health.report():
            health.ready(_PART)
