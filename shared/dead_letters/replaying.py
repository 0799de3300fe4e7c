"""The outcome of a replay, and the interface of what only the ingestor can do: decode a message.

The API does not import the ingestor. `devicestat serve` passes it a `Decoder` (ADR 45).
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

import msgspec

from shared.postgres.connections import Connection
from shared.readings.model import ElementFault, Reason


class Replayed(msgspec.Struct, frozen=True):
    """The result of a replay: counts of readings by outcome, and the detail of the first refusal."""

    stored: int
    duplicates: int
    refused: Mapping[Reason, int]
    detail: str


class Incomplete(msgspec.Struct, frozen=True):
    """A dead letter that cannot be replayed, because its payload was not fully kept. `detail`: the reason."""

    detail: str


class Bytes(msgspec.Struct, frozen=True):
    """A part of a payload: bytes from `start` on, before `end`. Equal at the end of a payload that is cut off."""

    start: int
    end: int


class Replayer(Protocol):
    """Replays dead letters on one connection."""

    async def replay(self, number: int) -> Replayed | Incomplete | None:
        """Replay one dead letter in a transaction of its own. Return None if it is gone."""


class Decoder(Protocol):
    """The ingestor's decoder of messages."""

    def replayer(self, connection: Connection, lock_timeout: str | None = None) -> Replayer:
        """Return a replayer on the connection, which is not in a transaction.

        `lock_timeout`: the time that a dead letter waits for a lock, as PostgreSQL's setting of that name. Then the
        replay raises LockNotAvailable.
        """

    def places(
        self, payload: bytes, content_type: str | None, faults: Sequence[ElementFault]
    ) -> Sequence[Bytes | None]:
        """Return where in the payload each fault is; None for a fault that has no place in it."""
