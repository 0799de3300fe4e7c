"""Keys to numbers: looked up once, asked again at most once a second, bounded."""

from collections import Counter

import psycopg

from ingestor import devices
from ingestor.devices import Devices
from tests.conftest import Database

TOPIC = "devices/{}/stats".format


def topics(*keys: str) -> dict[str, str]:
    return {TOPIC(key): key for key in keys}


async def add(database: Database, key: str) -> int:
    cursor = await database.execute("INSERT INTO devices (key, name) VALUES (%s, 'd') RETURNING id", (key,))
    row = await cursor.fetchone()
    assert row is not None
    return int(row[0])


async def test_a_key_is_known_once_it_was_found(database: Database) -> None:
    number, known = await add(database, "a"), Devices(register=False)
    assert known.known(TOPIC("a")) is None
    assert await known.resolve(database, topics("a", "b")) == {TOPIC("a"): number}
    assert known.known(TOPIC("a")) == number


async def test_an_unknown_key_is_asked_for_again_after_a_second(database: Database) -> None:
    now = 0.0
    known = Devices(register=False, clock=lambda: now)
    assert await known.resolve(database, topics("a")) == {}
    number = await add(database, "a")
    now = devices.ASK_AGAIN_S / 2
    assert await known.resolve(database, topics("a")) == {}
    now = devices.ASK_AGAIN_S
    assert await known.resolve(database, topics("a")) == {TOPIC("a"): number}


async def test_the_caches_are_bounded(database: Database) -> None:
    known = Devices(register=False, max_known=10, max_unknown=10)
    for n in range(50):
        await add(database, f"k{n}")
        await known.resolve(database, topics(f"k{n}", f"u{n}"))
    assert len(known._known) <= 11
    assert len(known._unknown) <= 11


async def test_a_key_that_the_database_refuses_keeps_no_other_from_being_registered(database: Database) -> None:
    await database.execute("ALTER TABLE devices ADD CONSTRAINT no_bad_keys CHECK (key <> 'bad')")
    known = Devices(register=True)
    found = await known.resolve(database, topics("a", "bad", "b"))
    assert set(found) == {TOPIC("a"), TOPIC("b")}


class Counting(psycopg.AsyncConnection[tuple[object, ...]]):
    """Counts how often each key is asked for."""

    def __init__(self, *arguments: object) -> None:
        super().__init__(*arguments)  # type: ignore[arg-type]
        self.asked: Counter[str] = Counter()

    async def execute(self, query: object, params: object = None, **options: object):  # type: ignore[no-untyped-def]
        if isinstance(params, tuple):
            self.asked.update(params[0])
        return await super().execute(query, params, **options)  # type: ignore[arg-type]


async def test_a_flood_of_unknown_keys_is_asked_for_once_a_second_each(database_url: str) -> None:
    moments = iter((0.0, 0.5, 0.9, 1.0, 1.0))
    known = Devices(register=False, clock=lambda: next(moments))
    async with await Counting.connect(database_url, autocommit=True) as connection:
        for _ in range(4):
            await known.resolve(connection, topics(*map(str, range(1000))))
        await known.resolve(connection, topics(*map(str, range(500, 1500))))
    assert connection.asked == {str(n): 2 if n < 1000 else 1 for n in range(1500)}
