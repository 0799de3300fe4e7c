"""Readings that are stored by the replay of a dead letter."""

from collections.abc import Sequence

import msgspec

from ingestor.replay import Replay
from shared.dead_letters.replaying import Replayed
from shared.postgres.connections import Connection
from shared.readings import dead_letters
from shared.readings.model import Reading, to_datetime
from tests.letters import letter

_NEWEST = "SELECT max(id) FROM dead_letters"


async def replayed(connection: Connection, replay: Replay, readings: Sequence[Reading]) -> int:
    """Keep the readings of one device as a dead letter, and replay the newest one. Return how many readings it stored.

    It may be that of another writer. The key of each device is its id.
    """
    device = readings[0].device_id
    payload = msgspec.json.encode([_element(one) for one in readings if one.device_id == device])
    await dead_letters.add(connection, [letter(f"devices/{device}/stats", payload)])
    row = await (await connection.execute(_NEWEST)).fetchone()
    outcome = None if row is None or row[0] is None else await replay.replay(row[0])
    return outcome.stored if isinstance(outcome, Replayed) else 0


def _element(reading: Reading) -> dict[str, object]:
    at = to_datetime(reading.recorded_at)
    return {"timestamp": at.isoformat(), "x": reading.x, "y": reading.y, "z": reading.z}
