"""What telling the broker of some devices has come to, whichever way it is told."""

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

import msgspec

from shared.broker.dynamic_security.differences import Difference
from shared.errors import CommandRefused
from shared.postgres.connections import Connection


class Brought(msgspec.Struct, frozen=True):
    """What differed, by device, and what dynamic security would not do about it."""

    found: dict[int, list[Difference]]
    refused: dict[int, CommandRefused]

    @property
    def lost(self) -> list[int]:
        """The devices that need another token: the broker does not have theirs, and it cannot be made again."""
        return [number for number, every in self.found.items() if any(one.lost for one in every)]


Bring = Callable[[Connection, Sequence[int]], Awaitable[Brought]]
"""Brings the broker to where the database is, for the devices of these numbers. Raises BrokerError."""


class Target(Protocol):
    """A way to tell the broker. `batch`: devices at a time."""

    batch: int

    def telling(self) -> AbstractAsyncContextManager[Bring]:
        """Gives what brings devices to the broker."""
        ...
