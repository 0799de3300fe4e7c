"""Cache of devices with their tokens. Lookups are batched, and cached for less than a second.

While the database does not respond, entries up to ten minutes old are used. So devices continue to publish, and the
broker queues their messages.
"""

from collections.abc import Callable, Collection, Mapping

import msgspec

from query_api.devices.mqtt.gathered import Gathered
from shared.access.credentials import is_same
from shared.errors import DatabaseUnreachable
from shared.postgres.connections import RETRYABLE, Pool

REMEMBERED_S = 0.9
STALE_USABLE_S = 600.0
ASK_AGAIN_S = 1.0
"""Time without lookups after a failure."""
MAX_REMEMBERED = 100_000
"""Cached devices, and as many unknown ids. Above this number the cache is cleared."""


class KnownDevice(msgspec.Struct, frozen=True):
    """A device with its token. `connected`: a client has authenticated at the broker with this token."""

    id: int
    key: str
    hash: bytes
    connected: bool


class _Found(msgspec.Struct, frozen=True):
    device: KnownDevice | None
    at: float


class KnownDevices:
    """Cache of this process."""

    def __init__(self, database: Pool, clock: Callable[[], float], max_remembered: int = MAX_REMEMBERED) -> None:
        """`clock`: seconds, such as the event loop's."""
        self._database = database
        self._clock = clock
        self._max_remembered = max_remembered
        self._devices: dict[int, _Found] = {}
        self._absent: dict[int, _Found] = {}  # separate, so that made-up ids cannot evict devices
        self._failed_at: float | None = None
        self._look_ups: Gathered[int, KnownDevice] = Gathered(self._look_up)
        self._marks: Gathered[KnownDevice, KnownDevice] = Gathered(self._mark)

    async def find(self, device_id: int, max_age: float = REMEMBERED_S) -> KnownDevice | None:
        """Return the device, from a lookup at most `max_age` seconds ago; None if it has no token.

        Raises one of RETRYABLE if the database does not respond and the device is not cached.
        """
        found = self._devices.get(device_id) or self._absent.get(device_id)
        if found and self._age(found) < max_age:
            return found.device
        try:
            return await self._ask(device_id)
        except RETRYABLE:
            if found is None or self._age(found) >= STALE_USABLE_S:
                raise
            return found.device

    def _age(self, found: _Found) -> float:
        return self._clock() - found.at

    async def _ask(self, device_id: int) -> KnownDevice | None:
        if self._failed_at is not None and self._clock() - self._failed_at < ASK_AGAIN_S:
            raise DatabaseUnreachable("the database did not respond to the previous lookup")
        return await self._look_ups.of(device_id)

    async def note_connected(self, device: KnownDevice) -> None:
        """Record that a client has authenticated with the device's current token. Raises one of RETRYABLE."""
        await self._marks.of(device)

    async def _look_up(self, device_ids: Collection[int]) -> Mapping[int, KnownDevice]:
        asked_at = self._clock()
        try:
            async with self._database.connection() as connection:
                rows = await (await connection.execute(_DEVICES, (list(device_ids),))).fetchall()
        except RETRYABLE:
            self._failed_at = self._clock()
            raise
        self._failed_at = None
        devices = {row[0]: KnownDevice(*row) for row in rows}
        for device_id in device_ids:
            self._remember(device_id, _Found(devices.get(device_id), asked_at))
        return devices

    def _remember(self, device_id: int, found: _Found) -> None:
        kept, other = (self._absent, self._devices) if found.device is None else (self._devices, self._absent)
        other.pop(device_id, None)
        if len(kept) >= self._max_remembered:
            kept.clear()
        kept[device_id] = found

    async def _mark(self, devices: Collection[KnownDevice]) -> Mapping[KnownDevice, KnownDevice]:
        shown = {"device_ids": [device.id for device in devices], "hashes": [device.hash for device in devices]}
        async with self._database.connection() as connection:
            await connection.execute(_CONNECTED, shown)
        for device in devices:
            found = self._devices.get(device.id)
            if found and found.device and is_same(found.device.hash, device.hash):
                self._devices[device.id] = _Found(msgspec.structs.replace(found.device, connected=True), found.at)
        return {}


_DEVICES = """
    SELECT id, key, hash, connected FROM device_tokens JOIN devices ON id = device_id WHERE device_id = ANY(%s)
"""
# Locked in the order of ids, so that two processes that mark the same devices cannot deadlock.
_CONNECTED = """
    WITH locked AS (
        SELECT device_id FROM device_tokens
        JOIN unnest(%(device_ids)s::bigint[], %(hashes)s::bytea[]) AS shown (id, shown_hash)
            ON device_id = id AND hash = shown_hash
        ORDER BY device_id FOR NO KEY UPDATE OF device_tokens
    )
    UPDATE device_tokens SET connected = true FROM locked
    WHERE device_tokens.device_id = locked.device_id AND NOT connected
"""
