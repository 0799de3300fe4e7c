"""Who takes what the session delivers."""

from typing import Protocol

from ingestor.mqtt.connection import NetworkConnection
from ingestor.mqtt.packets import Delivered


class Receiver(Protocol):
    """Who takes what the session delivers."""

    async def prepare(self) -> None:
        """A connection is about to be made."""

    @property
    def remembers(self) -> bool:
        """Whether packets of the session are known to be stored."""

    async def is_replaced(self) -> bool:
        """Whether another ingestor has written to the journal since this one did."""

    async def forget(self) -> None:
        """The broker has lost the session: its packet ids begin anew."""

    async def begin(self, connection: NetworkConnection) -> None:
        """A new connection: returns when nothing of an earlier one is under way any more.

        Raises StaleConnection where what comes over it must not be read.
        """

    def deliver(self, packet: Delivered) -> None:
        """A message, on the connection that `begin` named last."""

    async def drain(self) -> None:
        """Returns when all that was delivered is committed and acknowledged."""

    @property
    def delivered(self) -> int:
        """Grows with each message."""

    @property
    def empty(self) -> int:
        """Grows with each message without a payload."""
