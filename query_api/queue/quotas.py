"""How much one key may have queued, and how many schedules: an analyst's, that is; admins have no bounds."""

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
    """The bounds: SCHEDULES_PER_KEY and QUEUED_PER_KEY."""

    schedules: int
    queued: int

    async def take_turn(self, connection: Connection, principal: Principal) -> None:
        """Keep others with this key waiting until the end of the caller's transaction, so that none exceeds a bound."""
        if _is_bounded(principal):
            await connection.execute(_TURN, (principal.name,))

    async def require_queued(self, connection: Connection, principal: Principal) -> None:
        """Raise QuotaReached where the key has too many requests queued, with the one that was just added."""
        if _is_bounded(principal) and await _count(connection, _QUEUED, principal) > self.queued:
            raise QuotaReached(
                f"this key has {self.queued} analyses queued, as many as the setting QUEUED_PER_KEY allows: "
                "try again when some have ended, or cancel some"
            )

    async def require_schedules(self, connection: Connection, principal: Principal) -> None:
        """Raise QuotaReached where the key has too many schedules, with the one that was just added."""
        if _is_bounded(principal) and await _count(connection, _SCHEDULES, principal) > self.schedules:
            raise QuotaReached(
                f"this key has {self.schedules} schedules, as many as the setting SCHEDULES_PER_KEY allows: "
                "delete one first"
            )


def _is_bounded(principal: Principal) -> bool:
    return principal.role != Role.ADMIN


async def _count(connection: Connection, statement: LiteralString, principal: Principal) -> int:
    row = await (await connection.execute(statement, (principal.name,))).fetchone()
    assert row is not None, "an aggregate has one row"
    return int(row[0])
