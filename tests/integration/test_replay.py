"""Dead letters put back in: what can be stored now is, what cannot says why, and nothing is stored twice."""

import json
from collections.abc import Callable

import psycopg
import pytest

from ingestor.replay import Replay, Replayed
from shared.models import Reason
from shared.readings import prepare
from shared.settings import Settings
from tests.conftest import Broker, Database
from tests.ingestion import running_ingestor
from tests.letters import keep, letter
from tests.publisher import Message, publish
from tests.waiting import eventually

STATS = "devices/1/stats"


@pytest.fixture
async def letters(make_settings: Callable[..., Settings], broker: Broker, database: Database) -> dict[str, int]:
    """Dead letters as the ingestor leaves them: their numbers by topic."""
    sent = [
        Message(b'[{"x":1,"y":2,"z":3},{"x":1,"y":2,"z":3}]', topic="devices/late/stats"),
        Message(b'[{"x":5,"y":0,"z":0},{"x":"5","y":0,"z":0}]', topic="devices/mixed/stats"),
        Message(b'{"x":1,"y":2', topic="devices/cut/stats"),
        Message(b'{"x":1,"y":2,"z":3}', topic="devices/never/stats"),
    ]

    async def kept() -> dict[str, int]:
        cursor = await database.execute("SELECT topic, id FROM dead_letters")
        return {topic.split("/")[1]: number for topic, number in await cursor.fetchall()}

    async with running_ingestor(make_settings()):
        await publish(broker.host, broker.port, *sent)
        return await eventually(kept, lambda numbers: len(numbers) == len(sent))


async def test_what_became_of_each(letters: dict[str, int], database: Database) -> None:
    await database.execute("INSERT INTO devices (key, name) VALUES ('late', 'l'), ('mixed', 'm'), ('cut', 'c')")
    await prepare(database)
    replay = Replay(Settings(), database)
    outcomes = {name: await replay.replay(number) for name, number in letters.items()}
    assert outcomes["late"] == Replayed(2, 0, {}, "")
    assert outcomes["mixed"] == Replayed(1, 0, {Reason.INVALID_READING: 1}, "x: expected a number, got a string")
    cut, never = outcomes["cut"], outcomes["never"]
    assert cut is not None
    assert cut.refused == {Reason.MALFORMED: 1}
    assert never is not None
    assert never.refused == {Reason.UNKNOWN_DEVICE: 1}
    again = {name: await replay.replay(number) for name, number in letters.items()}
    assert again == {"late": None, "mixed": None, "cut": cut, "never": never}
    cursor = await database.execute("SELECT topic, payload FROM dead_letters ORDER BY topic")
    assert await cursor.fetchall() == [
        ("devices/cut/stats", b'{"x":1,"y":2'),
        ("devices/mixed/stats", b'{"x":"5","y":0,"z":0}'),
        ("devices/never/stats", b'{"x":1,"y":2,"z":3}'),
    ]
    cursor = await database.execute("SELECT count(*), count(DISTINCT recorded_at) FROM readings")
    assert await cursor.fetchone() == (3, 3)


async def test_a_reading_without_a_timestamp_keeps_the_time_of_its_receipt(
    letters: dict[str, int], database: Database
) -> None:
    cursor = await database.execute("SELECT received_at FROM dead_letters WHERE id = %s", (letters["never"],))
    (received_at,) = await cursor.fetchone() or (None,)
    await database.execute("INSERT INTO devices (key, name) VALUES ('never', 'n')")
    await prepare(database)
    await Replay(Settings(), database).replay(letters["never"])
    cursor = await database.execute("SELECT recorded_at, received_at FROM readings")
    assert await cursor.fetchone() == (received_at, received_at)


async def test_what_the_database_refuses_again_stays_whole(letters: dict[str, int], database: Database) -> None:
    await database.execute("INSERT INTO devices (key, name) VALUES ('late', 'l')")
    await database.execute("ALTER TABLE readings ADD CONSTRAINT not_one CHECK (x <> 1)")
    await prepare(database)
    became = await Replay(Settings(), database).replay(letters["late"])
    assert became is not None
    assert (became.stored, became.refused) == (0, {Reason.DATABASE_REFUSED: 2})
    cursor = await database.execute("SELECT payload FROM dead_letters WHERE reason = 'database_refused'")
    payloads = [json.loads(row[0]) for row in await cursor.fetchall()]
    assert [(p["x"], p["y"], p["z"]) for p in payloads] == [(1, 2, 3), (1, 2, 3)]
    with pytest.raises(psycopg.errors.CheckViolation):
        await database.execute("UPDATE dead_letters SET reason = 'no such reason'")


async def test_each_reason_is_counted(database_url: str, database: Database) -> None:
    await database.execute("INSERT INTO devices (key, name) VALUES ('1', 'press')")
    await keep(database_url, [letter(STATS, b'[{"x":"1","y":0,"z":0},{"x":5000,"y":0,"z":0},{"x":5001,"y":0,"z":0}]')])
    await prepare(database)
    became = await Replay(Settings(), database).replay(1)
    assert became is not None
    assert became.refused == {Reason.INVALID_READING: 1, Reason.OUT_OF_RANGE: 2}


async def test_a_month_that_was_dropped_meanwhile_is_made_again(database_url: str, database: Database) -> None:
    await database.execute("INSERT INTO devices (key, name) VALUES ('1', 'press')")
    reading = b'{"x":%d,"y":0,"z":0,"timestamp":"2020-05-01T00:00:00Z"}'
    await keep(database_url, [letter(STATS, reading % number) for number in (1, 2)])
    await prepare(database)
    replay = Replay(Settings(), database)
    assert await replay.replay(1) == Replayed(1, 0, {}, "")
    await database.execute("DROP TABLE readings_2020_05")
    assert await replay.replay(2) == Replayed(1, 0, {}, "")
