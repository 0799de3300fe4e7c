"""Replay dead letters one after the other, each in a transaction of its own, within the time of a request."""

import asyncio
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Annotated, Any

import msgspec
from psycopg.errors import LockNotAvailable

from shared.dead_letters.replaying import Decoder, Incomplete, Replayed, Replayer
from shared.postgres.connections import Connection

LOCK_TIMEOUT = "500ms"
"""Time that a dead letter waits for a lock, such as that of another replay."""
_SHARE = 0.75
"""Share of the time of a request after which the current dead letter is cut off. The response takes the rest."""


class Outcome(StrEnum):
    """What became of a dead letter."""

    REPLAYED = "replayed"
    INCOMPLETE = "incomplete"
    GONE = "gone"
    HELD = "held"
    CUT_OFF = "cut_off"


class ReplayOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one dead letter."""

    id: Annotated[int, msgspec.Meta(description="Id of the dead letter.", examples=[1])]
    outcome: Annotated[
        Outcome,
        msgspec.Meta(
            description="replayed: its readings were stored or refused again, and the rest of it remains. incomplete: "
            "its payload was not fully kept, so it was left unchanged. gone: it was replayed or purged before. "
            "held: another transaction holds a lock that it needs, such as another replay or a purge of it, so it was "
            "left unchanged. cut_off: it took longer than a request may, and was not replayed: replay it again."
        ),
    ]
    stored: Annotated[int, msgspec.Meta(description="Readings that were stored.", examples=[2])] = 0
    duplicates: Annotated[int, msgspec.Meta(description="Readings that were stored before.")] = 0
    refused: Annotated[Mapping[str, int], msgspec.Meta(description="Readings that were refused again, by reason.")] = {}
    detail: Annotated[
        str, msgspec.Meta(description="The first fault of what was refused again, or why it is incomplete.")
    ] = ""


async def replay_all(
    connection: Connection, decoder: Decoder, letters: Sequence[int], seconds: float, deadline_s: float
) -> list[ReplayOutcome]:
    """Replay until `seconds` are over, and at least one. Nothing takes longer than a share of `deadline_s`."""
    began, ends = time.monotonic(), asyncio.get_running_loop().time() + _SHARE * deadline_s
    replayer = decoder.replayer(connection, LOCK_TIMEOUT)
    outcomes: list[ReplayOutcome] = []
    for number in letters:
        outcomes.append(await _replay(replayer, number, ends))
        if time.monotonic() > began + seconds:
            break
        if outcomes[-1].outcome is Outcome.HELD:
            replayer = decoder.replayer(
                connection, LOCK_TIMEOUT
            )  # the former one may know devices that were rolled back
    return outcomes


async def _replay(replayer: Replayer, number: int, ends: float) -> ReplayOutcome:
    limit = asyncio.timeout_at(ends)
    try:
        async with limit:
            return _outcome(number, await replayer.replay(number))
    except LockNotAvailable:
        return ReplayOutcome(id=number, outcome=Outcome.HELD)
    except TimeoutError:
        if not limit.expired():
            raise
        return ReplayOutcome(id=number, outcome=Outcome.CUT_OFF)


def _outcome(number: int, replayed: Replayed | Incomplete | None) -> ReplayOutcome:
    if replayed is None:
        return ReplayOutcome(id=number, outcome=Outcome.GONE)
    if isinstance(replayed, Incomplete):
        return ReplayOutcome(id=number, outcome=Outcome.INCOMPLETE, detail=replayed.detail)
    return ReplayOutcome(
        id=number,
        outcome=Outcome.REPLAYED,
        stored=replayed.stored,
        duplicates=replayed.duplicates,
        refused={str(reason): count for reason, count in replayed.refused.items()},
        detail=replayed.detail,
    )


def totals(outcomes: Sequence[ReplayOutcome]) -> dict[str, Any]:
    """Return the totals for the audit log."""
    refused = Counter[str]()
    for one in outcomes:
        refused.update(one.refused)
    return {
        "letters": len(outcomes),
        "stored": sum(one.stored for one in outcomes),
        "duplicates": sum(one.duplicates for one in outcomes),
        "refused": dict(refused),
    }
