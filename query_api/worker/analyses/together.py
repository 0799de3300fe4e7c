"""Compute small analyses together: in one snapshot, and with the same statements.

Alone, a small analysis costs several round trips, and PostgreSQL makes plans for longer than it reads.
"""

import asyncio
from collections import deque
from collections.abc import Container, Sequence
from uuid import UUID

import structlog

from query_api.queue.claims import Claim
from query_api.statistics.analysis import Analysis, Asked, analyse_several
from query_api.statistics.figures import FigureNames
from shared.postgres.connections import Pool

MOST = 16
"""Analyses that are computed together."""
TIME_S = 0.25
"""Time after which they are computed one by one, so that a slow one delays the others little."""

_log = structlog.get_logger()


def take_group(waiting: deque[Claim], alone: Container[UUID]) -> list[Claim]:
    """Remove the first claim, and up to MOST - 1 others that can be computed with it, and return them.

    They have the same figures and different devices. A retry is computed alone, as it may end the worker. `alone`:
    tokens of others that are computed alone.
    """
    first = waiting[0]
    group = {first.device_id: first}
    if _may_be_joined(first, alone):
        for held in waiting:
            if len(group) < MOST and held.figures == first.figures and _may_be_joined(held, alone):
                group.setdefault(held.device_id, held)
    for held in group.values():
        waiting.remove(held)
    return list(group.values())


def _may_be_joined(held: Claim, alone: Container[UUID]) -> bool:
    return not held.is_retry and held.token not in alone


async def compute_together(database: Pool, group: Sequence[Claim]) -> list[Analysis] | None:
    """Return the analyses of the claims; None if they must be computed one by one: one of them fails or is slow."""
    asked = [Asked(held.device_id, held.start, held.end) for held in group]
    try:
        async with asyncio.timeout(TIME_S), database.connection() as connection:
            return await analyse_several(connection, asked, FigureNames.of(group[0].figures))
    except Exception as error:  # noqa: BLE001  # those that fail raise it again when they are computed alone
        _log.debug("analyses are computed one by one", analyses=len(group), reason=f"{type(error).__name__}: {error}")
        return None
