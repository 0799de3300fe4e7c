"""A device is deleted: in one short transaction, which leaves its readings to the worker (ADR 16)."""

from query_api.devices.tokens import Tokens
from shared import audit, deletions
from shared.audit import Action, Actor
from shared.database import Connection

_PATIENCE = "SET LOCAL lock_timeout = '3s'"
# The device first, and what hangs on it after: so does who asks for an analysis, ends one, or makes a schedule's next.
_DELETE = "DELETE FROM devices WHERE id = %s RETURNING key"


async def remove(connection: Connection, device_id: int, tokens: Tokens, actor: Actor) -> bool:
    """Deletes the device, its token, its analyses and its schedules; False if it is not there.

    Raises LockNotAvailable and DeadlockDetected where others are at it.
    """
    async with connection.transaction():
        await connection.execute(_PATIENCE)
        deleted = await (await connection.execute(_DELETE, (device_id,))).fetchone()
        if deleted is None:
            return False
        await tokens.tell_broker(connection, device_id)
        await audit.record(connection, actor, Action.DEVICE_DELETED, f"device {device_id}", key=deleted[0])
        await deletions.record(connection, device_id, deleted[0])
    return True
