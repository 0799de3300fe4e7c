"""What telling the broker of some devices has come to, whichever way it is told."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Protocol

import msgspec

from shared.errors import CommandRefused
from shared.postgres.connections import Connection


class Difference(msgspec.Struct, frozen=True):
    """What is not as it should be, and the commands that mend it.

    `lost`: what is missing is a token that cannot be made again, so that commands do not suffice.
    """

    what: str
    commands: tuple[Mapping[str, Any], ...] = ()
    lost: bool = False

    def __repr__(self) -> str:
        return f"Difference({self.what!r})"


class Reconciled(msgspec.Struct, frozen=True):
    """What differed, by device, and what dynamic security would not do about it."""

    found: dict[int, list[Difference]]
    refused: dict[int, CommandRefused]

    @property
    def lost(self) -> list[int]:
        """The devices that need another token: the broker does not have theirs, and it cannot be made again."""
        return [number for number, every in self.found.items() if any(one.lost for one in every)]


Reconcile = Callable[[Connection, Sequence[int]], Awaitable[Reconciled]]
"""Brings the broker to where the database is, for the devices of these numbers. Raises BrokerError."""


class Target(Protocol):
    """A way to tell the broker. `batch`: devices at a time."""

    batch: int

    def open(self) -> AbstractAsyncContextManager[Reconcile]:
        """Gives what brings devices to the broker."""
        ...


_LOCK = 0x64657669_62726F6B  # 'devi' 'brok'
_TRY = "SELECT pg_try_advisory_lock(%s)"
_WAIT = "SELECT pg_advisory_lock(%s)"
_RELEASE = "SELECT pg_advisory_unlock(%s)"


@asynccontextmanager
async def locked(connection: Connection, *, wait: bool) -> AsyncIterator[bool]:
    """Lets one process of the cluster at a time tell the broker something; without `wait` it may not be ours.

    What it reads under the lock is not older than what another has told the broker before.
    """
    row = await (await connection.execute(_WAIT if wait else _TRY, (_LOCK,))).fetchone()
    held = wait or (row is not None and row[0])
    try:
        yield held
    finally:
        if held and not connection.closed:
            await connection.execute(_RELEASE, (_LOCK,))
