"""The search for devices: by the index it finds what a scan finds, in pages, and reads few rows."""

import random

import pytest

from query_api.devices import search
from query_api.devices.search import find
from shared.postgres.connections import Connection
from tests.reads import Watched

TEXTS = [
    "Boiler, north",
    "BOILER 100%",
    "boil",
    "Ärger im Öl",
    "İstanbul ölçer",
    "Straße 7",
    "中文温度计",
    "a_b\\c",
    "  x  ",
    "ǅungla",
    "🌡️ hot",
]
SEARCHES = [
    *TEXTS,
    "boiler",
    "BOIL",
    "ärger",
    "İst",
    "i̇st",
    "straße",
    "温度计",
    "温度",
    "_b\\",
    "%",
    "r 1",
    "  x",
    "ǆun",
    "🌡️ h",
    "nothing has this",
]
REGISTER = "INSERT INTO devices (key, name) SELECT * FROM unnest(%s::text[], %s::text[])"
SCAN = """
    SELECT id FROM devices
    WHERE strpos(lower(name), lower(%(search)s)) > 0 OR strpos(lower(key), lower(%(search)s)) > 0 ORDER BY id
"""


FILL = """
    INSERT INTO devices (key, name)
    SELECT 'meter-' || n, concat('Meter ', n, CASE n % 2 WHEN 0 THEN ' even' END, CASE n WHEN 39000 THEN ' rare' END)
    FROM generate_series(1, 40000) AS n
"""
MOST_ROWS = 3_000
"""Rows and index entries of a search."""


async def scanned(database: Connection, text: str) -> list[int]:
    return [row[0] for row in await (await database.execute(SCAN, {"search": text})).fetchall()]


async def test_the_index_finds_what_a_scan_finds(database: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "READ_FIRST", 5)
    monkeypatch.setattr(search, "READ_FIRST_OF_PAGE", 0)
    dice = random.Random(7)
    names = [f"{dice.choice(TEXTS)} {dice.choice(TEXTS)}" for _ in range(400)]
    await database.execute(REGISTER, ([f"key-{n}" for n in range(400)], names))
    for text in [*SEARCHES, *names[:20], "key-39", "KEY-3", "y-", "9"]:
        found: list[int] = []
        while page := await find(database, text, found[-1] if found else 0, 7):
            found += [row.id for row in page]
        assert found == await scanned(database, text), text


async def test_a_renamed_device_is_found_by_its_new_name(database: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "READ_FIRST", 1)
    await database.execute(REGISTER, (["a", "b", "c", "d"], ["former name"] * 4))
    await database.execute("UPDATE devices SET name = 'latest name' WHERE key = 'd'")
    assert [row.key for row in await find(database, "latest", 0, 1)] == ["d"]
    assert [row.key for row in await find(database, "former", 0, 9)] == ["a", "b", "c"]


async def test_a_search_reads_few_devices(database: Connection) -> None:
    await database.execute(FILL)
    await database.execute("VACUUM (ANALYZE) devices")
    watched = Watched(database)
    for text, count in (("r-39999", 1), ("no device has this", 0), ("METER", 101), ("even", 101), ("rare", 1)):
        watched.reads.clear()
        assert len(await find(database, text, 0, 101)) == count, text
        reads = [read for reads in watched.reads.values() for read in reads]
        assert sum(read.rows for read in reads) < MOST_ROWS, text
        assert not any(read.scanned for read in reads), text
