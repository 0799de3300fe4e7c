"""Deleted devices, and the fence that excludes later readings of them (ADR 16).

A writer enters the fence at the start of its transaction, and gets the devices that were deleted since it last entered,
and the times that were announced since (`announcements.py`). A deletion closes the fence until the end of its
transaction. So a reading is either committed before its device is deleted, and removed with it, or its writer has read
the deletion.

Old marks are deleted, in the order of their numbers and never the newest (`worker/cleaning/deleted_devices.py`). So the
mark that a writer saw last exists unless later ones may be missing. A writer that does not find it clears its cache of
devices.
"""

import asyncio
from collections.abc import Set
from weakref import WeakSet

from psycopg.errors import LockNotAvailable

from shared.postgres import arrays
from shared.postgres.connections import Connection
from shared.readings.announcements import Announcements

_LATEST = "SELECT coalesce(max(number), 0) FROM deleted_devices"
_ENTER = "SELECT deletions, deleted, announcement, devices, announced FROM pass_fence(%s, %s)"


class MarksMissed(Exception):
    """Marks were deleted that this writer has not seen: any device in its cache may be deleted."""


class Fence:
    """The deletions and the announcements that one writer has read."""

    def __init__(self) -> None:
        self._seen: int | None = None
        self._deleted: set[int] = set()
        self._connections = WeakSet[Connection]()
        self._announcement = 0
        self.announcements = Announcements()

    @property
    def deleted(self) -> Set[int]:
        """The ids of the devices that were deleted since `begin`, as of the last `enter`."""
        return self._deleted

    async def begin(self, connection: Connection) -> None:
        """Start at the newest mark. It must precede the writer's first lookup of a device. Later calls do nothing."""
        if self._seen is None:
            row = await (await connection.execute(_LATEST)).fetchone()
            assert row is not None, "an aggregate has one row"
            self._seen = row[0]

    async def enter(self, connection: Connection) -> Set[int]:
        """Enter the fence in the caller's transaction, and return the devices that were deleted since the last time.

        Raises MarksMissed, once; the next transaction continues from the newest mark.
        """
        await self.begin(connection)
        self._forget_if_new(connection)
        assert self._seen is not None, "begin has set it"
        cursor = arrays.cursor(connection)
        await cursor.execute(_ENTER, (self._seen - 1, self._announcement))  # with the last deletion seen
        row = await cursor.fetchone()
        assert row is not None, "the function returns one row"
        numbers, deleted, announcement, devices, announced = row
        if announcement is not None:
            self.announcements.add(devices, announced)
            self._announcement = announcement
        return self._note_deleted({} if numbers is None else dict(zip(numbers.tolist(), deleted.tolist(), strict=True)))

    def _note_deleted(self, marks: dict[int, int]) -> Set[int]:
        """`marks`: the devices by the numbers of their marks, in order, from the mark that was seen last."""
        before = self._seen or 0
        self._seen = max(marks, default=before)
        newly_deleted = {device_id for number, device_id in marks.items() if number > before}
        self._deleted |= newly_deleted
        if marks and min(marks) != max(before, 1):
            raise MarksMissed
        return newly_deleted

    def _forget_if_new(self, connection: Connection) -> None:
        """A new connection may lead to an earlier state of the database, where numbers are given a second time."""
        if connection not in self._connections:
            self._connections.add(connection)
            self._announcement = 0
            self.announcements = Announcements()


TRIES = 4
PAUSE_S = 0.25
"""Pause between two tries. Writers wait during a try, and continue in the pause."""
_PATIENCE = "SET LOCAL lock_timeout = '250ms'"
_CLOSE = "SELECT close_deletion_fence()"
_RECORD = "INSERT INTO deleted_devices (device_id, key) VALUES (%s, %s)"


async def record(connection: Connection, device_id: int, key: str) -> None:
    """Record the deletion of the device, as the last statement of the caller's transaction.

    It waits for the batches that are being written. Raises LockNotAvailable if one of them does not end.
    """
    await _close(connection)
    await connection.execute(_RECORD, (device_id, key))


async def _close(connection: Connection) -> None:
    for left in reversed(range(TRIES)):
        try:
            async with connection.transaction():
                await connection.execute(_PATIENCE)
                await connection.execute(_CLOSE)
        except LockNotAvailable:
            if not left:
                raise
            await asyncio.sleep(PAUSE_S)
        else:
            return
