"""Dead letters put back in: what can be stored now is, what cannot says why, and nothing is stored twice."""

from collections.abc import Callable
from datetime import timedelta

import psycopg
import pytest
from msgspec.structs import replace

from ingestor.replay import Replay
from shared.dead_letters.replaying import Incomplete, Replayed
from shared.readings.dead_letters import Omitted, count
from shared.readings.model import Reason
from shared.readings.store import prepare
from shared.settings import Settings
from tests.conftest import Broker, Database
from tests.ingestion import running_ingestor
from tests.letters import NOON, keep, letter
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
    mixed = Replayed(0, 0, {Reason.INVALID_READING: 1}, "x: expected a number, got a string")
    assert again == {"late": None, "mixed": mixed, "cut": cut, "never": never}
    cursor = await database.execute("SELECT topic, payload FROM dead_letters ORDER BY topic")
    assert await cursor.fetchall() == [
        ("devices/cut/stats", b'{"x":1,"y":2'),
        ("devices/mixed/stats", b'[{"x":5,"y":0,"z":0},{"x":"5","y":0,"z":0}]'),
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
    cursor = await database.execute("SELECT payload, refused FROM dead_letters WHERE reason = 'database_refused'")
    assert await cursor.fetchall() == [(b'[{"x":1,"y":2,"z":3},{"x":1,"y":2,"z":3}]', None)]
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


async def test_only_refused_elements_are_stored_each_once(
    make_settings: Callable[..., Settings], broker: Broker, database: Database
) -> None:
    """Ten elements without a timestamp, seven of them good at first; then three more, in two steps."""
    await database.execute("INSERT INTO devices (id, key, name) VALUES (1, '1', 'press')")
    await database.execute("ALTER TABLE readings ADD CONSTRAINT odd CHECK (x NOT IN (2, 5, 9))")
    payload = b"[" + b",".join(b'{"x":%d,"y":0,"z":0}' % number for number in range(10)) + b"]"

    async def kept() -> list[tuple[object, ...]]:
        query = "SELECT id, readings, reasons, refused, payload = %s FROM dead_letters"
        return await (await database.execute(query, (payload,))).fetchall()

    async with running_ingestor(make_settings()):
        await publish(broker.host, broker.port, Message(payload))
        ((number, *first),) = await eventually(kept, bool)
    assert first == [3, {"database_refused": 3}, bytes([0b0010_0100, 0b10]), True]
    assert isinstance(number, int)
    await database.execute("ALTER TABLE readings DROP CONSTRAINT odd")
    await database.execute("ALTER TABLE readings ADD CONSTRAINT one CHECK (x <> 9)")
    await prepare(database)
    replay = Replay(Settings(), database)
    became = await replay.replay(number)
    assert became == Replayed(2, 0, {Reason.DATABASE_REFUSED: 1}, became.detail if isinstance(became, Replayed) else "")
    assert await kept() == [(number, 1, {"database_refused": 1}, bytes([0, 0b10]), True)]
    again = await replay.replay(number)
    assert isinstance(again, Replayed)
    assert (again.stored, again.duplicates) == (0, 0)
    await database.execute("ALTER TABLE readings DROP CONSTRAINT one")
    assert await replay.replay(number) == Replayed(1, 0, {}, "")
    assert await kept() == []
    cursor = await database.execute("SELECT x FROM readings ORDER BY received_at")
    assert await cursor.fetchall() == [(float(n),) for n in range(10)]


async def test_the_times_of_receipt_are_those_of_the_ingestor(database_url: str, database: Database) -> None:
    """Also of one whose times are not those of a lone ingestor."""
    await database.execute("INSERT INTO devices (id, key, name) VALUES (1, '1', 'press')")
    one = letter(STATS, b'[{"x":1,"y":0,"z":0},{"x":1,"y":0,"z":0},{"x":1,"y":0,"z":0}]')
    await keep(database_url, [replace(one, step=6, refused=b"\x05")])
    await prepare(database)
    assert await Replay(Settings(), database).replay(1) == Replayed(2, 0, {}, "")
    cursor = await database.execute("SELECT received_at FROM readings ORDER BY 1")
    assert await cursor.fetchall() == [(NOON,), (NOON + timedelta(microseconds=12),)]


async def test_an_array_that_is_now_refused_as_a_whole_keeps_its_elements(
    database_url: str, database: Database
) -> None:
    """As after an upgrade to a decoder that reads less: what was stored of it is not stored again later."""
    await database.execute("INSERT INTO devices (id, key, name) VALUES (1, '1', 'press')")
    one = letter(STATS, b'[{"x":1,"y":0,"z":0},')
    await keep(database_url, [replace(one, reasons={Reason.OUT_OF_RANGE: 2}, refused=b"\x05")])
    await prepare(database)
    became = await Replay(Settings(), database).replay(1)
    assert isinstance(became, Replayed)
    assert became.refused == {Reason.MALFORMED: 2}
    cursor = await database.execute("SELECT reason, readings, refused FROM dead_letters")
    assert await cursor.fetchall() == [("malformed", 2, b"\x05")]


async def test_a_dead_letter_without_its_payload_says_so_and_stays(database_url: str, database: Database) -> None:
    one = letter(STATS, b"[", Reason.TOO_LARGE, "8000000 bytes")
    await keep(database_url, [replace(one, payload_bytes=8_000_000)])
    omitted = Omitted(STATS, "more", None)
    for _ in range(2):
        omitted.add(one)
    await count(database, omitted)
    await prepare(database)
    replay = Replay(Settings(), database)
    assert await replay.replay(1) == Incomplete("of its 8,000,000 bytes only the first 1 were kept")
    assert await replay.replay(2) == Incomplete("it counts 2 messages, whose payloads were not kept")
    cursor = await database.execute("SELECT count(*) FROM dead_letters")
    assert await cursor.fetchone() == (2,)
