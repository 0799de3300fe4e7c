"""Whether the schema is still this version's: a later version may migrate the database while a service runs."""

from shared.errors import SchemaTooNew, SchemaTooOld
from shared.postgres.connections import Connection
from shared.postgres.migrate import check_schema
from shared.serving.telemetry import Health

_PART = "schema"


async def note_schema(connection: Connection, health: Health) -> None:
    """Make the service not ready while the schema is another version's, in the words of its start.

    It goes on with its work: between `devicestat migrate` and its restart it loses nothing. Raises DatabaseError.
    """
    try:
        await check_schema(connection)
    except (SchemaTooNew, SchemaTooOld) as error:
        health.not_ready(_PART, str(error))
    else:
        if _PART in health.report():
            health.ready(_PART)
