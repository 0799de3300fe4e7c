"""A device is deleted: in one short transaction, which leaves all that it has to the worker (ADR 16, ADR 31).

Without its row it is gone from every answer, and its key is free.
"""

from query_api.devices.tokens import Tokens
from query_api.queue.requests import notify_ended
from shared.access import audit
from shared.access.audit import Action, Actor
from shared.broker.outbox import Change
from shared.postgres.connections import Connection
from shared.readings import deletions

_PATIENCE = "SET LOCAL lock_timeout = '3s'"
_DELETE = "DELETE FROM devices WHERE id = %s RETURNING key"


async def remove(connection: Connection, device_id: int, tokens: Tokens, actor: Actor) -> bool:
    """Delete the device and its token, and mark what else it has for removal; False if it is not there.

    Raises LockNotAvailable and DeadlockDetected where others are at it.
    """
    async with connection.transaction():
        await connection.execute(_PATIENCE)
        deleted = await (await connection.execute(_DELETE, (device_id,))).fetchone()
        if deleted is None:
            return False
        await notify_ended(connection, device_id)
        await tokens.tell_broker(connection, [device_id], Change.REVOCATION)
        await audit.record(connection, actor, Action.DEVICE_DELETED, f"device {device_id}", key=deleted[0])
        await deletions.record(connection, device_id, deleted[0])
    return True
