"""Claims of a worker that has just started."""

from query_api.queue.claiming import Turns
from query_api.queue.claims import Claim
from shared.postgres.connections import Connection


async def claim_one(connection: Connection) -> Claim | None:
    """Claim a queued request, if there is one."""
    held = await Turns().claim(connection, 1)
    return held[0] if held else None
