"""Cache of device ids by topic.

A known device costs one dict lookup. An unknown key is looked up again after a second at the earliest, so a flood of
unknown keys costs the database little. The API sends a notification of each registration, so a new device does not wait
for that second. Deletions are read in each batch's transaction. Both caches are bounded.
"""

import time
from collections.abc import Callable, Iterable, Set

from psycopg import Notify

from shared.broker.names import PROBE_KEY
from shared.postgres.connections import Connection
from shared.postgres.errors import ROW_FAULTS
from shared.readings.announcements import Announcements
from shared.readings.deletions import Fence, MarksMissed
from shared.readings.model import DEVICES_CHANNEL

MAX_KNOWN = 1_000_000
"""Topics in the cache of known devices, which is cleared when full."""
MAX_UNKNOWN = 100_000
"""Keys in the cache of unknown devices, which evicts the oldest when full."""
ASK_AGAIN_S = 1.0

_LISTEN = f"LISTEN {DEVICES_CHANNEL}"
_RECEIVE = "SELECT"
_FIND = "SELECT key, id FROM devices WHERE key = ANY(%s)"
_REGISTER = """
    INSERT INTO devices (key, name) SELECT key, key FROM unnest(%s::text[]) AS key ORDER BY key
    ON CONFLICT DO NOTHING
"""


async def _register(connection: Connection, keys: list[str]) -> None:
    """Register the keys. A key that the database refuses stays unknown; the others are registered."""
    try:
        async with connection.transaction():
            await connection.execute(_REGISTER, (keys,))
    except ROW_FAULTS:
        for key in keys if len(keys) > 1 else []:
            await _register(connection, [key])


class Devices:
    """The devices that publish, by topic."""

    def __init__(
        self,
        *,
        register: bool,
        clock: Callable[[], float] = time.monotonic,
        max_known: int = MAX_KNOWN,
        max_unknown: int = MAX_UNKNOWN,
    ) -> None:
        self._register = register
        self._max_known = max_known
        self._max_unknown = max_unknown
        self._clock = clock
        self._known: dict[str, int] = {}
        self._unknown: dict[str, float] = {}
        self._registered: set[str] = set()  # notified during a lookup
        self._fence = Fence()

    def known(self, topic: str) -> int | None:
        """Return the id of the device that publishes to the topic; None if it is not cached."""
        return self._known.get(topic)

    async def listen(self, connection: Connection) -> None:
        """Listen for registrations on a new connection; forget the unknown keys, which may be registered by now."""
        connection.add_notify_handler(self._note_registered)
        await connection.execute(_LISTEN)
        self._unknown.clear()
        await self._fence.begin(connection)

    @property
    def announcements(self) -> Announcements:
        """The announcements of sealed times, as of the last `pass_fence`."""
        return self._fence.announcements

    async def pass_fence(self, connection: Connection) -> Set[int]:
        """Begin a transaction that stores readings. Return the ids of all devices that were deleted meanwhile.

        Raises MarksMissed if any known device may have been deleted.
        """
        try:
            gone = await self._fence.enter(connection)
        except MarksMissed:
            self._known.clear()
            raise
        if gone:
            self._known = {topic: device_id for topic, device_id in self._known.items() if device_id not in gone}
        return self._fence.deleted

    def _note_registered(self, registered: Notify) -> None:
        if registered.channel != DEVICES_CHANNEL:
            return
        self._unknown.pop(registered.payload, None)
        self._registered.add(registered.payload)

    async def resolve(self, connection: Connection, topics: dict[str, str]) -> dict[str, int]:
        """Return the device id of each topic; a topic without a device is left out. `topics`: the key of each topic.

        Unknown keys are registered if UNKNOWN_DEVICES says so.
        """
        now = self._clock()
        if not self._unknown.keys().isdisjoint(topics.values()):
            await connection.execute(_RECEIVE)  # pending notifications arrive with the answer
        asked = {topic: key for topic, key in topics.items() if self._unknown.get(key, now) <= now}
        if not asked:
            return {}
        keys = list(set(asked.values()))
        self._registered.clear()
        if self._register:
            await _register(connection, [key for key in keys if key != PROBE_KEY])
        cursor = await connection.execute(_FIND, (keys,))
        ids: dict[str, int] = dict(await cursor.fetchall())
        found = {topic: ids[key] for topic, key in asked.items() if key in ids}
        self._remember(
            found, (key for key in keys if key not in ids and key not in self._registered), now + ASK_AGAIN_S
        )
        return found

    def _remember(self, found: dict[str, int], missing: Iterable[str], ask_again: float) -> None:
        if len(self._known) > self._max_known:
            self._known.clear()
        self._known |= found
        for key in missing:
            self._unknown.pop(key, None)  # reinserted as the newest
            self._unknown[key] = ask_again
        while len(self._unknown) > self._max_unknown:
            del self._unknown[next(iter(self._unknown))]
