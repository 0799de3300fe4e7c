"""From the key in a topic to the device's number, without asking the database for every row.

What is known is kept by topic, so that a known device costs one look-up in a dict. A key that the database
did not know is asked for again after a second at the earliest: a flood of unknown keys costs it little.
Both are bounded: when full they start anew.
"""

import time
from collections.abc import Callable, Iterable

from ingestor.isolate import ROW_FAULTS
from shared.database import Connection

MAX_KNOWN = 1_000_000
MAX_UNKNOWN = 100_000
ASK_AGAIN_S = 1.0

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

    def known(self, topic: str) -> int | None:
        """The number of the device that publishes to the topic, if it has been resolved before."""
        return self._known.get(topic)

    async def resolve(self, connection: Connection, topics: dict[str, str]) -> dict[str, int]:
        """The numbers of the devices; `topics` gives the key of each topic. A missing topic is unknown.

        Devices are registered on the way where the settings say so.
        """
        now = self._clock()
        asked = {topic: key for topic, key in topics.items() if self._unknown.get(key, now) <= now}
        if not asked:
            return {}
        keys = list(set(asked.values()))
        if self._register:
            await _register(connection, keys)
        cursor = await connection.execute(_FIND, (keys,))
        numbers: dict[str, int] = dict(await cursor.fetchall())
        found = {topic: numbers[key] for topic, key in asked.items() if key in numbers}
        self._remember(found, (key for key in keys if key not in numbers), now + ASK_AGAIN_S)
        return found

    def _remember(self, found: dict[str, int], missing: Iterable[str], ask_again: float) -> None:
        if len(self._known) > MAX_KNOWN:
            self._known.clear()
        if len(self._unknown) > MAX_UNKNOWN:
            self._unknown.clear()
        self._known |= found
        self._unknown |= dict.fromkeys(missing, ask_again)
