"""The blocks of a device: all of them are checked, or one of them, each in a snapshot of its own.

Services may run meanwhile. What is to be mended is checked again in the transaction that mends it, which locks the
blocks of the device.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from typing import TypeVar

from psycopg.errors import DeadlockDetected, SerializationFailure

from query_api.statistics.blocks.building import Key
from query_api.statistics.blocks.checking.leftovers import (
    check_enrolled,
    check_leftovers,
    delete_leftovers,
    enrol,
)
from query_api.statistics.blocks.checking.merged import check_merged, unmerge
from query_api.statistics.blocks.checking.parts import Part, check_part, mend_part
from query_api.statistics.blocks.checking.problems import Problem
from query_api.statistics.blocks.layout import BASE, STANDARD, TOP, Layout
from query_api.statistics.blocks.sealing.merging import merge
from query_api.statistics.blocks.sealing.sealed_device import SealedDevice, locked, observed
from query_api.statistics.blocks.tables import WrongBlock
from shared.errors import DatabaseBusy
from shared.postgres import arrays
from shared.postgres.arrays import EARLIEST
from shared.postgres.connections import Connection
from shared.postgres.distribution import is_distributed
from shared.readings.model import Microseconds

TRIES = 60
"""Attempts to see or to lock the blocks of a device that retention or a worker is changing."""
PAUSE_S = 0.5
"""Between two attempts."""
T = TypeVar("T")
_Enter = Callable[[Connection, int], AbstractAsyncContextManager[SealedDevice | None]]


_DEVICES = """
    SELECT id FROM devices
    WHERE EXISTS (SELECT FROM sealed_devices WHERE device_id = devices.id AND sealed > '-infinity')
       OR EXISTS (SELECT 1 FROM blocks WHERE device_id = devices.id)
    ORDER BY id
"""
_DEVICES_OF_NODES = """
    WITH with_blocks AS MATERIALIZED (SELECT DISTINCT device_id FROM blocks)
    SELECT id FROM devices
    WHERE EXISTS (SELECT FROM sealed_devices WHERE device_id = devices.id AND sealed > '-infinity')
       OR id IN (SELECT device_id FROM with_blocks)
    ORDER BY id
"""


async def devices_with_blocks(connection: Connection) -> list[int]:
    """Return the ids of the devices that have sealed readings, ascending."""
    statement = _DEVICES_OF_NODES if await is_distributed(connection) else _DEVICES
    return [row[0] for row in await (await connection.execute(statement)).fetchall()]


class Checker:
    """Checks blocks over one connection. `mends`: whether it repairs what is wrong. `layout`: tests use a small one."""

    def __init__(
        self, connection: Connection, *, mends: bool = False, layout: Layout = STANDARD, tries: int = TRIES
    ) -> None:
        self._connection = connection
        self._mends = mends
        self._layout = layout
        self._tries = tries

    async def device(self, device_id: int) -> AsyncIterator[Problem]:
        """Yield the problems of a device. Raises DatabaseBusy if retention or another worker does not end."""
        is_mended = False
        async for problem in self._all(device_id):
            is_mended = self._mends
            yield problem
        if is_mended:
            await self._merge(device_id)

    async def block(self, key: Key) -> Sequence[Problem]:
        """Return the problems of one block. For a block of readings: up to the next one. Raises DatabaseBusy."""
        if key.level > BASE:
            found = await self._merged(key.device_id, key.level, key.first)
        else:
            part = await self._part(key.device_id, key.first)
            found = [] if part is None else part.problems
        if found and self._mends:
            await self._merge(key.device_id)
        return found

    async def _all(self, device_id: int) -> AsyncIterator[Problem]:
        for problem in [*await self._enrolled(device_id), *await self._leftovers(device_id)]:
            yield problem
        at = EARLIEST
        while (part := await self._part(device_id, at)) is not None:
            for problem in part.problems:
                yield problem
            at = part.end
        for level in range(BASE + 1, TOP + 1):
            for first in await self._firsts(device_id, level):
                for problem in await self._merged(device_id, level, first):
                    yield problem

    async def _enrolled(self, device_id: int) -> Sequence[Problem]:
        found = await check_enrolled(self._connection, device_id)
        if found and self._mends:
            await enrol(self._connection, device_id)
        return found

    async def _leftovers(self, device_id: int) -> Sequence[Problem]:
        async def check(device: SealedDevice) -> Sequence[Problem]:
            return await check_leftovers(self._connection, device)

        async def mend(device: SealedDevice, found: Sequence[Problem]) -> None:
            await delete_leftovers(self._connection, device)

        return await self._checked(device_id, check, mend, bool) or []

    async def _part(self, device_id: int, at: Microseconds) -> Part | None:
        """Return the part that contains the time; None from `sealed` on, and if the device was deleted."""

        async def check(device: SealedDevice) -> Part | None:
            return await check_part(self._connection, device, at, self._layout) if at < device.sealed else None

        async def mend(device: SealedDevice, part: Part | None) -> None:
            if part is not None:
                await mend_part(self._connection, device, part, self._layout)

        return await self._checked(device_id, check, mend, lambda part: part is not None and bool(part.problems))

    async def _merged(self, device_id: int, level: int, first: Microseconds) -> Sequence[Problem]:
        async def check(_: SealedDevice) -> Sequence[Problem]:
            return await check_merged(self._connection, device_id, level, first, self._layout)

        async def mend(_: SealedDevice, found: Sequence[Problem]) -> None:
            await unmerge(self._connection, device_id, level, first)

        return await self._checked(device_id, check, mend, bool) or []

    async def _firsts(self, device_id: int, level: int) -> list[Microseconds]:
        async with arrays.cursor(self._connection) as cursor:
            await cursor.execute(_FIRSTS, (device_id, level))
            return [first for (first,) in await cursor.fetchall()]

    async def _checked(
        self,
        device_id: int,
        check: Callable[[SealedDevice], Awaitable[T]],
        mend: Callable[[SealedDevice, T], Awaitable[None]],
        is_wrong: Callable[[T], bool],
    ) -> T | None:
        """Return what `check` finds, and mend it if that is wanted; None if the device was deleted."""
        found = await self._seen(observed, device_id, check)
        if found is None or not self._mends or not is_wrong(found):
            return found

        async def check_and_mend(device: SealedDevice) -> T:
            found = await check(device)
            if is_wrong(found):
                await mend(device, found)
            return found

        return await self._seen(locked, device_id, check_and_mend)

    async def _seen(self, enter: _Enter, device_id: int, act: Callable[[SealedDevice], Awaitable[T]]) -> T | None:
        for left in reversed(range(self._tries)):
            try:
                async with enter(self._connection, device_id) as device:
                    if device is not None and not await self._has_hidden_months():
                        return await act(device)
            except (SerializationFailure, DeadlockDetected):
                pass  # a worker was faster
            if not await self._is_there(device_id):
                return None
            if left:
                await asyncio.sleep(PAUSE_S)
        raise DatabaseBusy(f"the blocks of device {device_id} are being changed, or retention is dropping months")

    async def _has_hidden_months(self) -> bool:
        """Whether the snapshot has blocks of a month without its rows, because retention is dropping it."""
        return (await self._connection.execute(_HIDDEN)).rowcount > 0

    async def _is_there(self, device_id: int) -> bool:
        return (await self._connection.execute(_EXISTS, (device_id,))).rowcount > 0

    async def _merge(self, device_id: int) -> None:
        """Merge what stands alone now. If a worker is faster, or another block is wrong, a worker does so later."""
        with suppress(SerializationFailure, DeadlockDetected, WrongBlock):
            await merge(self._connection, device_id, self._layout)


_FIRSTS = "SELECT first FROM blocks WHERE device_id = %s AND level = %s ORDER BY first"
_HIDDEN = "SELECT FROM hidden_months WHERE NOT isempty(months)"
_EXISTS = "SELECT FROM sealed_devices WHERE device_id = %s"
