"""What was refused of a message is one row, however many readings that are; a flood of refused messages is bounded."""

import json
from collections.abc import Callable

import pytest

from ingestor.storing.sampling import TOPICS
from shared.readings import dead_letters
from shared.readings.model import Reason
from shared.readings.rules import MAX_READINGS
from shared.settings import Settings
from tests.conftest import Broker, Database
from tests.ingestion import metrics, running_ingestor
from tests.letters import letter
from tests.publisher import Message, publish
from tests.waiting import eventually

MESSAGES = 60
GOOD = {"x": 1, "y": 2, "z": 3}
_READINGS = "devicestat_ingest_readings_"
_COUNTS = "SELECT key, sum(value::bigint)::bigint FROM dead_letters, jsonb_each_text(reasons) GROUP BY key"


async def settled(settings: Settings, received: int) -> dict[Reason, int]:
    """Wait until `received` readings are received and none is in flight; return the refused ones, by reason."""
    figures = await eventually(
        lambda: metrics(settings.ingestor_metrics_port),
        lambda now: (now[f"{_READINGS}received_total"], now[f"{_READINGS}in_flight"]) == (received, 0),
    )
    counts = {reason: int(figures[f'{_READINGS}rejected_total{{reason="{reason}"}}']) for reason in Reason}
    stored = figures[f"{_READINGS}stored_total"] + figures[f"{_READINGS}duplicate_total"]
    assert received == stored + sum(counts.values())
    return {reason: count for reason, count in counts.items() if count}


async def counted(database: Database) -> dict[str, int]:
    """Refused readings by reason, of all dead letters."""
    return dict(await (await database.execute(_COUNTS)).fetchall())


async def rows(database: Database, query: str) -> list[tuple[object, ...]]:
    return await (await database.execute(query.encode())).fetchall()


@pytest.fixture
async def device(database: Database) -> int:
    """The device with the key 1."""
    await database.execute("INSERT INTO devices (id, key, name) VALUES (1, '1', 'press')")
    return 1


async def test_an_array_of_refused_elements_is_one_row(
    device: int, make_settings: Callable[..., Settings], broker: Broker, database: Database
) -> None:
    settings = make_settings(dead_letters_per_minute=1000)
    payload = b"[" + b",".join([b"0"] * MAX_READINGS) + b"]"
    async with running_ingestor(settings):
        await publish(broker.host, broker.port, *[Message(payload, content_type="t" * 60_000)] * MESSAGES)
        refused = await settled(settings, MESSAGES * MAX_READINGS)
    assert refused == await counted(database) == {Reason.INVALID_READING: MESSAGES * MAX_READINGS}
    found = "SELECT count(*), bool_and(payload = %s AND refused IS NULL) FROM dead_letters"
    assert await (await database.execute(found, (payload,))).fetchone() == (MESSAGES, True)
    (size,) = await (await database.execute("SELECT pg_total_relation_size('dead_letters')")).fetchone() or (0,)
    assert size < 1_000_000


async def test_a_message_that_is_refused_for_many_reasons_is_one_row(
    device: int, make_settings: Callable[..., Settings], broker: Broker, database: Database
) -> None:
    """By the decoder and by the database; what is good is stored."""
    await database.execute("ALTER TABLE readings ADD CONSTRAINT not_thirteen CHECK (x <> 13)")
    settings = make_settings()
    elements = [{**GOOD, "x": n} for n in range(20)]
    elements[5:8] = [{"x": 1}, {**GOOD, "y": 5000}, {**GOOD, "y": 6000}]
    async with running_ingestor(settings):
        await publish(broker.host, broker.port, Message(json.dumps(elements).encode()))
        refused = await settled(settings, 20)
    assert refused == {Reason.INVALID_READING: 1, Reason.OUT_OF_RANGE: 2, Reason.DATABASE_REFUSED: 1}
    ((reason, detail, reasons, faults, bits),) = await rows(
        database, "SELECT reason, detail, reasons, faults, refused FROM dead_letters"
    )
    assert (reason, detail) == ("out_of_range", "y: 5000 is not a number from -1000 to 1000")
    assert reasons == refused
    assert isinstance(faults, list)
    assert [(fault["index"], fault["reason"]) for fault in faults] == [
        (5, "invalid_reading"),
        (6, "out_of_range"),
        (7, "out_of_range"),
        (13, "database_refused"),
    ]
    assert bits == bytes([0b1110_0000, 0b0010_0000])
    assert await rows(database, "SELECT count(*) FROM readings") == [(16,)]


async def test_a_flood_of_one_topic_is_kept_in_part_and_counted_whole(
    device: int, make_settings: Callable[..., Settings], broker: Broker, database: Database
) -> None:
    """Another topic's dead letters are kept meanwhile. What is counted is committed before it is acknowledged: the
    ingestor stops at once after it has received all."""
    settings = make_settings(dead_letters_per_minute=5)
    flood = [Message(b"[0,0,%d]" % number) for number in range(100)] + [
        Message(b"{}"),
        Message(b'{"x":1e9,"y":0,"z":0}'),
    ]
    async with running_ingestor(settings):
        await publish(broker.host, broker.port, *flood, *[Message(b"[0]", topic="devices/2/stats")] * 3)
        refused = await settled(settings, 305)
        await publish(broker.host, broker.port, *flood)
    assert refused == {Reason.INVALID_READING: 301, Reason.OUT_OF_RANGE: 1, Reason.UNKNOWN_DEVICE: 3}
    kept = "SELECT topic, count(*), sum(readings)::int FROM dead_letters WHERE received_until IS NULL GROUP BY 1"
    assert set(await rows(database, kept)) == {("devices/1/stats", 5, 15), ("devices/2/stats", 3, 3)}
    ((topic, messages, reasons, payload, reason, in_time),) = await rows(
        database,
        "SELECT topic, messages, reasons, payload, reason, received_until > received_at FROM dead_letters "
        "WHERE received_until IS NOT NULL",
    )
    assert (topic, payload, reason, in_time) == ("devices/1/stats", b"", "invalid_reading", True)
    assert (messages, reasons) == (199, {"invalid_reading": 587, "out_of_range": 2})


async def test_a_flood_over_many_topics_is_kept_in_part_and_counted_whole(
    make_settings: Callable[..., Settings], broker: Broker, database: Database
) -> None:
    settings = make_settings(dead_letters_per_minute=2)
    flood = [Message(b"[0,0]", topic=f"devices/{number}/stats") for number in range(500)]
    async with running_ingestor(settings):
        await publish(broker.host, broker.port, *flood)
        assert await settled(settings, 1000) == {Reason.UNKNOWN_DEVICE: 1000}
    kept = "SELECT count(*), sum(readings)::int FROM dead_letters WHERE received_until IS NULL"
    assert await rows(database, kept) == [(2 * TOPICS, 4 * TOPICS)]
    counts = "SELECT topic, messages, readings FROM dead_letters WHERE received_until IS NOT NULL"
    rest = 500 - 2 * TOPICS
    assert await rows(database, counts) == [("devices/+/stats", rest, 2 * rest)]


async def test_a_row_of_counts_that_was_purged_is_made_again(
    device: int, make_settings: Callable[..., Settings], broker: Broker, database: Database
) -> None:
    settings = make_settings(dead_letters_per_minute=1)
    async with running_ingestor(settings):
        for _ in range(2):
            await publish(broker.host, broker.port, *[Message(b"0")] * 3)
        await settled(settings, 6)
        await database.execute("DELETE FROM dead_letters")
        await publish(broker.host, broker.port, *[Message(b"0")] * 4)
        await settled(settings, 10)
    assert await rows(database, "SELECT messages, readings FROM dead_letters") == [(4, 4)]


async def test_text_that_postgresql_does_not_take_is_kept_all_the_same(database: Database) -> None:
    await dead_letters.add(database, [letter("devices/\0/\ud800", b"\0", Reason.BAD_TOPIC, "a \0 in it")])
    ((topic, payload, detail, faults),) = await rows(
        database, "SELECT topic, payload, detail, faults FROM dead_letters"
    )
    assert (topic, payload, detail) == ("devices/#00/#ED#A0#80", b"\0", "a #00 in it")
    assert faults == [{"index": None, "reason": "bad_topic", "detail": detail}]
