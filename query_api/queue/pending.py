"""The number of the analyses that wait and run."""

from shared.postgres.connections import Connection
from shared.status.judging import Queue

# A request that is retried later does not wait: it is due at run_after.
_PENDING = """
    SELECT count(*) FILTER (WHERE status = 'queued'), count(*) FILTER (WHERE status = 'running'),
           now() - min(coalesce(run_after, created_at)) FILTER (WHERE status = 'queued'
                       AND coalesce(run_after, created_at) <= now())
    FROM analysis_requests WHERE status IN ('queued', 'running')
"""


async def pending(connection: Connection) -> Queue:
    """Return the numbers of queued and running analyses, and how long the oldest one waits that may begin."""
    row = await (await connection.execute(_PENDING)).fetchone()
    assert row is not None, "an aggregate has one row"
    return Queue(*row)
