"""Quotas of each key for queued analyses and schedules. Admin keys have none."""

from typing import LiteralString

import msgspec

from query_api.access.rules import Principal
from query_api.errors import QuotaReached
from shared.access.credentials import Role
from shared.postgres.connections import Connection

_TURN = "SELECT pg_advisory_xact_lock(hashtext('devicestat quotas'), hashtext(%s))"
_QUEUED = "SELECT count(*) FROM analysis_requests WHERE owner = %s AND status = 'queued'"
_SCHEDULES = """
    SELECT count(*) FROM analysis_schedules
    WHERE owner = %s AND EXISTS (SELECT FROM devices WHERE devices.id = device_id)
"""


class Quotas(msgspec.Struct, frozen=True):
    """SCHEDULES_PER_KEY and QUEUED_PER_KEY."""

    schedules: int
    queued: int

    async def take_turn(self, connection: Connection, principal: Principal) -> None:
        """Lock the key until the end of the caller's transaction, so that concurrent requests cannot exceed a quota."""
        if _is_bounded(principal):
            await connection.execute(_TURN, (principal.name,))

    async def require_queued(self, connection: Connection, principal: Principal) -> None:
        """Raise QuotaReached if the key has too many queued requests, including the one just added."""
        if _is_bounded(principal) and await _count(connection, _QUEUED, principal) > self.queued:
            raise QuotaReached(
                f"this key has {self.queued} queued analyses, the maximum of QUEUED_PER_KEY: "
                "retry when some have finished, or cancel some"
            )

    async def require_schedules(self, connection: Connection, principal: Principal) -> None:
        """Raise QuotaReached if the key has too many schedules, including the one just added."""
        if _is_bounded(principal) and await _count(connection, _SCHEDULES, principal) > self.schedules:
            raise QuotaReached(
                f"this key has {self.schedules} schedules, the maximum of SCHEDULES_PER_KEY: delete one first"
            )


def _is_bounded(principal: Principal) -> bool:
    return principal.role != Role.ADMIN


async def _count(connection: Connection, statement: LiteralString, principal: Principal) -> int:
    row = await (await connection.execute(statement, (principal.name,))).fetchone()
    assert row is not None, "an aggregate has one row"
    return int(row[0])
