"""Dead letters over HTTP, for admins: lists, one with its faults, counts over time, replay and purge."""

import asyncio
import base64
import re
from datetime import timedelta
from typing import Any

import httpx
import msgspec
import pytest

from query_api.web.operating.dead_letters import purges, replays
from query_api.web.operating.dead_letters.records import PREVIEW_BYTES, Encoding, previewed
from shared.dead_letters import bitmap
from shared.postgres.connections import Connection as Database
from shared.readings.dead_letters import Omitted, count
from shared.readings.model import ElementFault, Reason
from tests.letters import FOUR, NOON, keep, left, letter

READING = b'{"x":1,"y":2,"z":3}'
UNKNOWN = "devices/unknown/stats"


@pytest.fixture
async def letters(database_url: str) -> str:
    """URL of the database, with four dead letters."""
    return await keep(database_url, FOUR)


async def ids(api: httpx.AsyncClient, query: str = "") -> list[int]:
    answer = await api.get(f"/dead-letters{query}")
    assert answer.status_code == 200, answer.text
    return [one["id"] for one in answer.json()]


@pytest.mark.usefixtures("letters")
async def test_they_are_listed_newest_first_by_reason_topic_and_time(api: httpx.AsyncClient) -> None:
    expected = {
        "": [4, 3, 2, 1],
        "?reason=malformed": [2],
        "?topic=devices/1/stats": [3, 1],
        "?topic=devices/%2B/stats": [4, 3, 2, 1],
        "?topic=devices/1/%23": [3, 1],
        "?start=2026-01-31T12:00:00Z": [4, 3],
        "?end=2026-01-31T11:00:00Z": [2, 1],
        "?start=2026-01-31&end=2026-01-31&timezone=Europe/Berlin": [4, 3, 2, 1],
        "?reason=too_large": [],
        "?topic=devices": [],
    }
    for query, found in expected.items():
        assert await ids(api, query) == found, query
    first = (await api.get("/dead-letters?limit=1")).json()[0]
    assert (first["topic"], first["reason"], first["readings"], first["messages"]) == (
        "devices/\x1b[2J/stats", "unknown_device", 1, 1,
    )  # fmt: skip
    assert first["received_at"] == "2026-01-31T13:00:00.000000Z"


@pytest.mark.usefixtures("letters")
async def test_pages_continue_where_the_one_before_ended(api: httpx.AsyncClient, database_url: str) -> None:
    page = await api.get("/dead-letters?limit=2")
    assert [one["id"] for one in page.json()] == [4, 3]
    await keep(database_url, [letter("devices/1/stats", b"new", received_at=NOON + timedelta(hours=5))])
    second = await api.get(page.headers["link"].partition(">")[0].lstrip("<"))
    assert [one["id"] for one in second.json()] == [2, 1]
    assert "link" not in second.headers
    cursor = page.headers["x-next-cursor"]
    assert (await api.get(f"/dead-letters?reason=malformed&cursor={cursor}")).status_code == 400


@pytest.mark.parametrize(
    "query", ["?reason=ugly", "?topic=a%2B", "?topic=", "?topic=%00", "?start=2027&end=x", "?id=1"]
)
async def test_wrong_conditions_are_refused(api: httpx.AsyncClient, query: str) -> None:
    assert (await api.get(f"/dead-letters{query}")).status_code == 422


async def test_a_preview_is_bounded(api: httpx.AsyncClient, database_url: str) -> None:
    long = b'"' + "ä".encode() * 5000 + b'"'
    payloads = [b"\x83\xa1x\x01", long, b"\x1b[2J", b"line\nline", b""]
    await keep(database_url, [letter(UNKNOWN, payload) for payload in payloads])
    found = {one["id"]: one for one in (await api.get("/dead-letters")).json()}
    assert (found[1]["preview"], found[1]["preview_encoding"]) == (base64.b64encode(payloads[0]).decode(), "base64")
    assert found[2]["preview_encoding"] == "text"
    assert found[2]["preview"] == '"' + "ä" * ((PREVIEW_BYTES - 1) // 2)
    assert (found[2]["payload_bytes"], found[2]["kept_bytes"]) == (len(long), len(long))
    assert found[3]["preview_encoding"] == "base64"
    assert (found[4]["preview"], found[5]["preview"]) == ("line\nline", "")


def test_a_cut_character_does_not_make_a_text_binary() -> None:
    text = "aä€😀".encode()
    for length in range(len(text) + 1):
        preview, encoding = previewed(text[:length], is_cut=length < len(text))
        assert encoding is Encoding.TEXT
        assert text.decode().startswith(preview)
    assert previewed(b"ab\xff", is_cut=False)[1] is Encoding.BASE64
    assert previewed(b"\xff" * 20, is_cut=True)[1] is Encoding.BASE64


async def test_one_has_its_payload_and_the_places_of_its_faults(api: httpx.AsyncClient, database_url: str) -> None:
    payload = b'[{"x":1,"y":2,"z":3},{"x":5000,"y":2,"z":3},{"x":1,"y":"2","z":3}]'
    refused = msgspec.structs.replace(
        letter("devices/7/stats", payload),
        reasons={Reason.OUT_OF_RANGE: 1, Reason.INVALID_READING: 1},
        faults=[
            ElementFault(1, Reason.OUT_OF_RANGE, "x: 5000 is not a number from -1000 to 1000"),
            ElementFault(2, Reason.INVALID_READING, "y: expected a number, got a string"),
        ],
        refused=bitmap.of([1, 2]),
    )
    binary = letter("devices/7/stats", b"\x83\xa1x\x01", Reason.MALFORMED, "not MessagePack: Input data was truncated")
    await keep(database_url, [refused, binary, letter(UNKNOWN, READING, detail="no device")])
    found = (await api.get("/dead-letters/1")).json()
    assert (found["text"], bytes.fromhex(found["hex"])) == (payload.decode(), payload)
    assert [payload[one["start_byte"] : one["end_byte"]] for one in found["faults"]] == [b"5000", b'"2"']
    assert [one["index"] for one in found["faults"]] == [1, 2]
    assert (found["refused_elements"], found["missing"]) == ([[1, 2]], None)
    assert found["reasons"] == {"out_of_range": 1, "invalid_reading": 1}
    cut = (await api.get("/dead-letters/2")).json()
    assert (cut["text"], cut["hex"], cut["refused_elements"]) == (None, "83a17801", None)
    assert (cut["faults"][0]["start_byte"], cut["faults"][0]["end_byte"]) == (4, 4)
    unknown = (await api.get("/dead-letters/3")).json()
    assert unknown["faults"][0]["start_byte"] is None
    for number in ("4", "0", "-1", "99999999999999999999"):
        assert (await api.get(f"/dead-letters/{number}")).status_code == 404
    assert (await api.get("/dead-letters/x")).status_code == 422


async def test_what_was_not_kept_is_said(api: httpx.AsyncClient, database_url: str, database: Database) -> None:
    cut = msgspec.structs.replace(letter(UNKNOWN, b'{"x": 1', Reason.TOO_LARGE), payload_bytes=3_000_000)
    await keep(database_url, [cut])
    counted = Omitted(UNKNOWN, "more than 60 a minute", None)
    for _ in range(3):
        counted.add(letter(UNKNOWN, READING))
    await count(database, counted)
    assert (await api.get("/dead-letters/1")).json()["missing"] == ("of its 3,000,000 bytes only the first 7 were kept")
    several = (await api.get("/dead-letters/2")).json()
    assert several["missing"] == "it counts 3 messages, whose payloads were not kept"
    assert (several["messages"], several["readings"], several["received_until"]) == (3, 3, several["received_at"])
    answer = (await api.post("/dead-letters/replay", json={"ids": [1, 2]})).json()
    assert [one["outcome"] for one in answer["outcomes"]] == ["incomplete", "incomplete"]
    assert answer["outcomes"][0]["detail"] == "of its 3,000,000 bytes only the first 7 were kept"
    assert left(database_url) == [1, 2]


# Counts


async def test_they_are_counted_by_reason_over_time(api: httpx.AsyncClient, database_url: str) -> None:
    two = msgspec.structs.replace(
        letter("devices/1/stats", b"[]", received_at=NOON + timedelta(minutes=10)),
        reasons={Reason.OUT_OF_RANGE: 2, Reason.MALFORMED: 1},
    )
    await keep(database_url, [*FOUR, two, letter(UNKNOWN, b"", received_at=NOON - timedelta(days=40))])
    hours = (await api.get("/dead-letters/counts?start=2026-01-31")).json()
    assert [(one["start"][11:13], one["messages"], one["reasons"]) for one in hours] == [
        ("10", 1, {"invalid_reading": 1}),
        ("11", 1, {"malformed": 1}),
        ("12", 2, {"out_of_range": 3, "malformed": 1}),
        ("13", 1, {"unknown_device": 1}),
    ]
    assert (hours[0]["start"], hours[0]["end"]) == ("2026-01-31T10:00:00.000000Z", "2026-01-31T11:00:00.000000Z")
    days = (await api.get("/dead-letters/counts?interval=P1D&timezone=Pacific/Auckland")).json()
    assert [(one["start"], one["messages"]) for one in days] == [
        ("2025-12-23T00:00:00.000000+13:00", 1), ("2026-01-31T00:00:00.000000+13:00", 1),
        ("2026-02-01T00:00:00.000000+13:00", 4),
    ]  # fmt: skip
    of_topic = (await api.get("/dead-letters/counts?interval=P1Y&topic=devices/1/stats")).json()
    assert [one["messages"] for one in of_topic] == [3]
    page = await api.get("/dead-letters/counts?start=2026-01-31&limit=2")
    rest = await api.get(page.headers["link"].partition(">")[0].lstrip("<"))
    assert len(page.json()) == 2
    assert page.json() + rest.json() == hours
    assert (await api.get("/dead-letters/counts?start=2030-01-01")).json() == []
    for query in ("interval=P1X", "interval=PT1H30M", "timezone=Mars", "topic=a%2B"):
        assert (await api.get(f"/dead-letters/counts?{query}")).status_code == 422, query


async def test_counts_span_more_days_than_one_statement_takes(
    api: httpx.AsyncClient, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    moments = [NOON - timedelta(days=days) for days in (0, 3, 400, 401, 900)]
    await keep(database_url, [letter(UNKNOWN, b"", received_at=moment) for moment in moments])
    everything = (await api.get("/dead-letters/counts?interval=P1D")).json()
    monkeypatch.setattr("query_api.web.operating.dead_letters.counts.MAX_UNITS", 7)
    assert (await api.get("/dead-letters/counts?interval=P1D")).json() == everything
    assert sum(one["messages"] for one in everything) == 5


async def test_the_total_is_of_those_that_meet_all_conditions(api: httpx.AsyncClient, database_url: str) -> None:
    none = {"letters": 0, "readings": 0, "newest_id": None, "first_received_at": None, "last_received_at": None}
    assert (await api.get("/dead-letters/total")).json() == none
    several = msgspec.structs.replace(letter("devices/1/stats", b"[]"), reasons={Reason.MALFORMED: 5})
    await keep(database_url, [*FOUR, several])
    assert (await api.get("/dead-letters/total")).json() == {
        "letters": 5, "readings": 9, "newest_id": 5, "first_received_at": "2026-01-31T10:00:00.000000Z",
        "last_received_at": "2026-01-31T13:00:00.000000Z",
    }  # fmt: skip
    for query, letters, newest in (
        ("reason=malformed", 2, 5), ("topic=devices/1/%23", 3, 5), ("end=2026-01-31T11:00:00Z", 2, 2),
        ("reason=malformed&start=2026-01-31T12:00:00Z", 1, 5), ("start=2026-02-01&timezone=Pacific/Auckland", 4, 5),
    ):  # fmt: skip
        found = (await api.get(f"/dead-letters/total?{query}")).json()
        assert (found["letters"], found["newest_id"]) == (letters, newest), query
    for query in ("reason=ugly", "topic=a%2B", "start=x"):
        assert (await api.get(f"/dead-letters/total?{query}")).status_code == 422, query


# Replay


async def stored(api: httpx.AsyncClient, device: int) -> list[float]:
    return [one["x"] for one in (await api.get(f"/stats/{device}")).json()]


async def test_a_selection_is_replayed_and_each_has_its_outcome(
    api: httpx.AsyncClient, database_url: str, database: Database
) -> None:
    device = (await api.post("/devices", json={"name": "n", "key": "late"})).json()["id"]
    await keep(
        database_url,
        [
            letter("devices/late/stats", READING),
            letter("devices/late/stats", READING),
            letter("devices/late/stats", b'[{"x":2,"y":2,"z":3},{"x":3,"y":2,"z":3},{"x":"3","y":2,"z":3}]'),
            letter(UNKNOWN, READING),
            letter("devices/late/stats", b'{"x":1,"y', Reason.MALFORMED),
        ],
    )
    answer = await api.post("/dead-letters/replay", json={"topic": "devices/late/#"})
    assert answer.status_code == 200
    found: dict[str, Any] = answer.json()
    assert [
        (one["id"], one["outcome"], one["stored"], one["duplicates"], one["refused"]) for one in found["outcomes"]
    ] == [
        (1, "replayed", 1, 0, {}),
        (2, "replayed", 0, 1, {}),
        (3, "replayed", 2, 0, {"invalid_reading": 1}),
        (5, "replayed", 0, 0, {"malformed": 1}),
    ]
    assert found["outcomes"][2]["detail"] == "x: expected a number, got a string"
    assert (found["left"], found["next_after"]) == (0, None)
    assert left(database_url) == [3, 4, 5]
    assert await stored(api, device) == [1.0, 2.0, 3.0]
    again = (await api.post("/dead-letters/replay", json={"ids": [1, 3, 4]})).json()
    assert [(one["id"], one["outcome"]) for one in again["outcomes"]] == [(3, "replayed"), (4, "replayed")]
    assert await stored(api, device) == [1.0, 2.0, 3.0]
    entries = await database.execute(
        "SELECT detail FROM audit_log WHERE action = 'dead_letters.replayed' ORDER BY id LIMIT 1"
    )
    assert await entries.fetchall() == [
        (
            {
                "letters": 4, "stored": 3, "duplicates": 1, "refused": {"invalid_reading": 1, "malformed": 1},
                "selection": {"topic": "devices/late/#"},
            },
        )
    ]  # fmt: skip


async def test_replays_at_once_store_each_reading_once(
    api: httpx.AsyncClient, database_url: str, database: Database
) -> None:
    device = (await api.post("/devices", json={"name": "n", "key": "late"})).json()["id"]
    array = b"[" + b",".join([READING] * 10) + b"]"  # without timestamps: only their times of receipt differ
    moments = [NOON + timedelta(seconds=number) for number in range(10)]
    await keep(database_url, [letter("devices/late/stats", array, received_at=moment) for moment in moments])
    answers = await asyncio.gather(*(api.post("/dead-letters/replay", json={}) for _ in range(4)))
    outcomes = [one for answer in answers for one in answer.json()["outcomes"]]
    assert sum(one["stored"] for one in outcomes) == 100
    assert sum(one["duplicates"] for one in outcomes) == 0
    assert len(await stored(api, device)) == 100
    assert left(database_url) == []


async def test_late_readings_of_a_replay_are_analysed(
    api: httpx.AsyncClient, database_url: str, database: Database
) -> None:
    """They are copied to late_readings if their time was announced to be sealed."""
    device = (await api.post("/devices", json={"name": "n", "key": "late"})).json()["id"]
    await database.execute(
        "INSERT INTO sealed_devices (device_id, announced, number) VALUES (%s, now(), 1)"
        " ON CONFLICT (device_id) DO UPDATE SET announced = now()",
        (device,),
    )
    await keep(database_url, [letter("devices/late/stats", READING)])
    answer = (await api.post("/dead-letters/replay", json={})).json()
    assert answer["outcomes"][0]["stored"] == 1
    assert await (await database.execute("SELECT device_id, x FROM late_readings")).fetchall() == [(device, 1.0)]


async def test_a_replay_takes_turns(api: httpx.AsyncClient, database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It stops when its time is over, says how many are left, and continues after the last one."""
    monkeypatch.setattr(replays, "WORK_S", 0.0)
    await keep(database_url, [letter(UNKNOWN, READING)] * 3)
    done: list[int] = []
    form: dict[str, Any] = {"topic": UNKNOWN}
    for remaining in (2, 1, 0):
        answer = (await api.post("/dead-letters/replay", json=form)).json()
        done += [one["id"] for one in answer["outcomes"]]
        assert answer["left"] == remaining
        assert answer["next_after"] == (done[-1] if remaining else None)
        form["after"] = done[-1]
    assert done == [1, 2, 3]
    monkeypatch.undo()
    answer = (await api.post("/dead-letters/replay", json={"limit": 2})).json()
    assert (len(answer["outcomes"]), answer["left"], answer["next_after"]) == (2, 1, 2)
    answer = (await api.post("/dead-letters/replay", json={"up_to": 2})).json()
    assert ([one["id"] for one in answer["outcomes"]], answer["left"]) == ([1, 2], 0)


@pytest.mark.parametrize(
    ("form", "status"),
    [
        ({"ids": []}, 422), ({"ids": [0]}, 422), ({"ids": ["1"]}, 422), ({"ids": [1] * 1001}, 422),
        ({"reason": "ugly"}, 422), ({"topic": "a+"}, 422), ({"limit": 0}, 422), ({"limit": 1001}, 422),
        ({"start": "2026-01-02T00:00:00Z", "end": "2026-01-01T00:00:00Z"}, 400), ({"since": "1h"}, 422), ([], 422),
        ({"up_to": 0}, 422),
    ],
)  # fmt: skip
async def test_wrong_selections_replay_nothing(api: httpx.AsyncClient, form: object, status: int) -> None:
    assert (await api.post("/dead-letters/replay", json=form)).status_code == status


# Purge


@pytest.mark.parametrize(
    ("query", "remaining"),
    [
        ("id=2&id=4", [1, 3]), ("reason=malformed", [1, 3, 4]), ("topic=devices/1/stats", [2, 4]),
        ("start=2026-01-31T11:00:00Z&end=2026-01-31T12:00:00Z", [1, 4]), ("up_to=3", [4]),
        ("id=1&reason=malformed", [1, 2, 3, 4]), ("everything=true", []), ("reason=malformed&up_to=1", [1, 2, 3, 4]),
    ],
)  # fmt: skip
async def test_a_selection_is_purged(
    api: httpx.AsyncClient, letters: str, database: Database, query: str, remaining: list[int]
) -> None:
    answer = await api.delete(f"/dead-letters?{query}")
    assert answer.json() == {"deleted": 4 - len(remaining), "left": 0}
    assert left(letters) == remaining
    entry = await (await database.execute("SELECT action, subject, detail FROM audit_log")).fetchone()
    assert entry is not None
    assert entry[:2] == ("dead_letters.purged", "dead letters")
    assert entry[2]["deleted"] == 4 - len(remaining)


@pytest.mark.parametrize(
    "query", ["", "everything=false", "id=x", "id=0", "id=99999999999999999999", "reason=ugly", "topic=a%2B", "up_to=0",
              "&".join(f"id={number}" for number in range(1, 1002))]
)  # fmt: skip
async def test_a_wrong_selection_purges_nothing(api: httpx.AsyncClient, letters: str, query: str) -> None:
    answer = await api.delete(f"/dead-letters?{query}")
    assert answer.status_code == 422
    assert left(letters) == [1, 2, 3, 4]


async def test_a_purge_takes_turns(api: httpx.AsyncClient, letters: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(purges, "WORK_S", 0.0)
    monkeypatch.setattr(purges, "PURGED_AT_ONCE", 3)
    assert (await api.delete("/dead-letters?everything=true")).json() == {"deleted": 3, "left": 1}
    assert left(letters) == [4]
    assert (await api.delete("/dead-letters?everything=true")).json() == {"deleted": 1, "left": 0}


async def test_the_list_reads_the_index_by_age(database: Database, database_url: str) -> None:
    await database.execute(
        "INSERT INTO dead_letters (received_at, topic, payload, reason, detail, payload_bytes, reasons, faults)"
        " SELECT now() - n * interval '1 s', 't', '', 'malformed', '', 0, '{\"malformed\": 1}', '[]'"
        " FROM generate_series(1, 5000) AS n"
    )
    await database.execute("ANALYZE dead_letters")
    rows = await database.execute(
        "EXPLAIN SELECT id FROM dead_letters WHERE true AND (received_at, id) < (now(), 7)"
        " ORDER BY received_at DESC, id DESC LIMIT 101"
    )
    plan = "\n".join(row[0] for row in await rows.fetchall())
    assert re.search(r"Index (Only )?Scan Backward using dead_letters_by_age", plan), plan
