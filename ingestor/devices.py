"""From the key in a topic to the device's number, without asking the database for every row.

What is known is kept by topic, so that a known device costs one look-up in a dict. A key that the database
did not know is asked for again after a second at the earliest: a flood of unknown keys costs it little. The
API announces what it registers, so that nobody waits for that second. What was deleted is heard of in each batch's
own transaction. What is known and unknown is bounded.
"""

import time
from collections.abc import Callable, Iterable, Set

from psycopg import Notify

from shared.broker.names import PROBE_KEY
from shared.postgres.connections import Connection
from shared.postgres.errors import ROW_FAULTS
from shared.readings.deletions import Fence, MarksMissed
from shared.readings.model import DEVICES_CHANNEL

MAX_KNOWN = 1_000_000
"""Topics; when it is full it starts anew."""
MAX_UNKNOWN = 100_000
"""Keys; when it is full the oldest goes, whose second is over unless so many come within one."""
ASK_AGAIN_S = 1.0

_LISTEN = f"LISTEN {DEVICES_CHANNEL}"
_HEAR = "SELECT"
_FIND = "SELECT key, id FROM devices WHERE key = ANY(%s)"
_REGISTER = """
    INSERT INTO devices (key, name) SELECT key, key FROM unnest(%s::text[]) AS key ORDER BY key
    ON CONFLICT DO NOTHING
"""


async def _register(connection: Connection, keys: list[str]) -> None:
    """Registers the keys; one that the database refuses stays unknown, and keeps none of the others from it."""
    try:
        async with connection.transaction():
            await connection.execute(_REGISTER, (keys,))
    except ROW_FAULTS:
        for key in keys if len(keys) > 1 else []:
            await _register(connection, [key])


class Devices:
    """The devices that publish."""

    def __init__(self, *, register: bool, clock: Callable[[], float] = time.monotonic) -> None:
        self._register = register
        self._clock = clock
        self._known: dict[str, int] = {}
        self._unknown: dict[str, float] = {}
        self._heard: set[str] = set()  # while the database is asked
        self._fence = Fence()

    def known(self, topic: str) -> int | None:
        """The number of the device that publishes to the topic, if it has been resolved before."""
        return self._known.get(topic)

    async def listen(self, connection: Connection) -> None:
        """From here on the connection brings what is registered; what was, unheard, is asked for again."""
        connection.add_notify_handler(self._hear)
        await connection.execute(_LISTEN)
        self._unknown.clear()
        await self._fence.begin(connection)

    async def pass_fence(self, connection: Connection) -> Set[int]:
        """Begins a transaction that stores readings: the numbers of all devices that were deleted meanwhile.

        Raises MarksMissed where any device that was known may have been deleted.
        """
        try:
            gone = await self._fence.enter(connection)
        except MarksMissed:
            self._known.clear()
            raise
        if gone:
            self._known = {topic: number for topic, number in self._known.items() if number not in gone}
        return self._fence.deleted

    def _hear(self, registered: Notify) -> None:
        if registered.channel != DEVICES_CHANNEL:
            return
        self._unknown.pop(registered.payload, None)
        self._heard.add(registered.payload)

    async def resolve(self, connection: Connection, topics: dict[str, str]) -> dict[str, int]:
        """The numbers of the devices; `topics` gives the key of each topic. A missing topic is unknown.

        Devices are registered on the way where the settings say so.
        """
        now = self._clock()
        if not self._unknown.keys().isdisjoint(topics.values()):
            await connection.execute(_HEAR)  # what was announced until now arrives with the answer
        asked = {topic: key for topic, key in topics.items() if self._unknown.get(key, now) <= now}
        if not asked:
            return {}
        keys = list(set(asked.values()))
        self._heard.clear()
        if self._register:
            await _register(connection, [key for key in keys if key != PROBE_KEY])
        cursor = await connection.execute(_FIND, (keys,))
        numbers: dict[str, int] = dict(await cursor.fetchall())
        found = {topic: numbers[key] for topic, key in asked.items() if key in numbers}
        self._remember(found, (key for key in keys if key not in numbers and key not in self._heard), now + ASK_AGAIN_S)
        return found

    def _remember(self, found: dict[str, int], missing: Iterable[str], ask_again: float) -> None:
        if len(self._known) > MAX_KNOWN:
            self._known.clear()
        self._known |= found
        for key in missing:
            self._unknown.pop(key, None)  # to be the newest
            self._unknown[key] = ask_again
        while len(self._unknown) > MAX_UNKNOWN:
            del self._unknown[next(iter(self._unknown))]
