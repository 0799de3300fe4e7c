"""Reconciliation of the broker with the database: its result, its lock, and the interface of the two ways to do it."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Protocol

import msgspec

from shared.errors import CommandRefused
from shared.postgres.connections import Connection


class Difference(msgspec.Struct, frozen=True):
    """One difference between broker and database, and the commands that remove it.

    `lost`: the broker lacks a token that cannot be derived again, so the device needs a new one.
    """

    what: str
    commands: tuple[Mapping[str, Any], ...] = ()
    lost: bool = False

    def __repr__(self) -> str:
        return f"Difference({self.what!r})"


class Reconciled(msgspec.Struct, frozen=True):
    """The result of reconciling some devices: the differences found, and the refused commands, by device id."""

    found: dict[int, list[Difference]]
    refused: dict[int, CommandRefused]

    @property
    def lost(self) -> list[int]:
        """Ids of the devices that need a new token."""
        return [device_id for device_id, every in self.found.items() if any(one.lost for one in every)]


Reconcile = Callable[[Connection, Sequence[int]], Awaitable[Reconciled]]
"""Makes the broker match the database for the devices with these ids. Raises BrokerError."""


class Target(Protocol):
    """A way to reconcile the broker. `batch`: devices for each call."""

    batch: int

    def open(self) -> AbstractAsyncContextManager[Reconcile]:
        """Return the function that reconciles devices, within the block."""
        ...


_LOCK = 0x64657669_62726F6B  # 'devi' 'brok'
_TRY = "SELECT pg_try_advisory_lock(%s)"
_WAIT = "SELECT pg_advisory_lock(%s)"
_RELEASE = "SELECT pg_advisory_unlock(%s)"


@asynccontextmanager
async def locked(connection: Connection, *, wait: bool) -> AsyncIterator[bool]:
    """Hold the lock with which one process at a time changes the broker. Without `wait`, yield whether it was free.

    A process reads devices under the lock, so it never overwrites a newer state on the broker with an older one.
    """
    row = await (await connection.execute(_WAIT if wait else _TRY, (_LOCK,))).fetchone()
    held = wait or (row is not None and row[0])
    try:
        yield held
    finally:
        if held and not connection.closed:
            await connection.execute(_RELEASE, (_LOCK,))
