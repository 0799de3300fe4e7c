"""The way of a reading from the PUBLISH of an independent client to a row, on a real broker and a real database."""

import json
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime

import msgspec
import pytest

from ingestor.payload.message_pack import MESSAGE_PACK
from ingestor.payload.refusals import PREFIX_BYTES
from shared.readings.model import Reason
from shared.readings.rules import MAX_READINGS
from shared.settings import Settings
from tests.conftest import Broker, Database
from tests.ingestion import IngestorProcess, metrics, running_ingestor
from tests.publisher import Message, publish, publish_lines
from tests.services import api
from tests.waiting import eventually

MSGPACK = MESSAGE_PACK.content_type
GOOD = b'{"x":1,"y":2,"z":3}'


@pytest.fixture
async def device(database: Database) -> int:
    """A registered device with its id as its key."""
    cursor = await database.execute("INSERT INTO devices (id, key, name) VALUES (1, '1', 'press') RETURNING id")
    row = await cursor.fetchone()
    assert row is not None
    return int(row[0])


async def until_settled(settings: Settings, received: int) -> dict[str, float]:
    """Return the metrics when this number of readings was received and all are stored or refused."""
    prefix = "devicestat_ingest_readings_"
    figures = await eventually(
        lambda: metrics(settings.ingestor_metrics_port),
        lambda f: f[f"{prefix}received_total"] >= received and f[f"{prefix}in_flight"] == 0,
    )
    rejected = sum(value for name, value in figures.items() if name.startswith(f"{prefix}rejected_total"))
    assert figures[f"{prefix}received_total"] == (
        figures[f"{prefix}stored_total"] + figures[f"{prefix}duplicate_total"] + rejected
    )
    return figures


async def rows(database: Database, query: str) -> list[tuple[object, ...]]:
    return await (await database.execute(query.encode())).fetchall()


async def test_a_reading_becomes_a_row(
    device: int, make_settings: Callable[..., Settings], broker: Broker, database: Database
) -> None:
    settings = make_settings()
    before = datetime.now(UTC)
    async with running_ingestor(settings):
        await publish(
            broker.host,
            broker.port,
            Message(b'{"x":1.5,"y":-2,"z":3e2}'),
            Message(b'{"x":4,"y":5,"z":6,"timestamp":"2026-01-31T13:00:00.25+01:00"}'),
        )
        await until_settled(settings, 2)
    (first, second) = await rows(database, "SELECT x, y, z, recorded_at, received_at FROM readings ORDER BY x")
    assert first[:3] == (1.5, -2.0, 300.0)
    assert isinstance(first[3], datetime)
    assert before <= first[3] <= datetime.now(UTC)
    assert first[3] == first[4]
    assert second[:4] == (4.0, 5.0, 6.0, datetime(2026, 1, 31, 12, 0, 0, 250_000, UTC))


@pytest.mark.parametrize("qos", [0, 1, 2])
async def test_every_quality_of_service_is_stored_once(
    qos: int, device: int, make_settings: Callable[..., Settings], broker: Broker, database: Database
) -> None:
    settings = make_settings()
    async with running_ingestor(settings):
        await publish(broker.host, broker.port, *(Message(b'{"x":%d,"y":2,"z":3}' % n, qos=qos) for n in range(50)))
        await until_settled(settings, 50)
    assert await rows(database, "SELECT x FROM readings ORDER BY x") == [(float(n),) for n in range(50)]


async def test_arrays_and_messagepack(
    device: int, make_settings: Callable[..., Settings], broker: Broker, database: Database
) -> None:
    settings = make_settings()
    readings = [{"x": n, "y": 0, "z": 0} for n in range(MAX_READINGS)]
    packed = msgspec.msgpack.encode([{"x": 0, "y": n, "z": 1} for n in range(1, 11)])
    async with running_ingestor(settings):
        await publish(
            broker.host,
            broker.port,
            Message(json.dumps([{**r, "x": r["x"] / 10} for r in readings]).encode()),
            Message(packed),
            Message(packed.replace(b"\xa1z\x01", b"\xa1z\x02"), content_type=MSGPACK),
        )
        await until_settled(settings, MAX_READINGS + 20)
    assert await rows(database, "SELECT z, count(*) FROM readings GROUP BY z ORDER BY z") == [
        (0.0, MAX_READINGS),
        (1.0, 10),
        (2.0, 10),
    ]


BAD: list[tuple[Message, Reason]] = [
    (Message(b"\x7f\xfe\xff"), Reason.MALFORMED),
    (Message(b'{"x":1,"y":2'), Reason.MALFORMED),
    (Message(b'{"x":NaN,"y":2,"z":3}'), Reason.MALFORMED),
    (Message(b" "), Reason.MALFORMED),
    (Message(b'{"x":"1","y":2,"z":3}'), Reason.INVALID_READING),
    (Message(b'{"x":1,"y":2}'), Reason.INVALID_READING),
    (Message(b"[" + GOOD[:-1] + b"}, [" + GOOD + b"]]"), Reason.INVALID_READING),
    (Message(b"[]"), Reason.INVALID_READING),
    (Message(b'{"x":1e999,"y":2,"z":3}'), Reason.OUT_OF_RANGE),
    (Message(b'{"x":1000.0001,"y":2,"z":3}'), Reason.OUT_OF_RANGE),
    (Message(b'{"x":1,"y":2,"z":3,"timestamp":"2026-01-31T12:00:00"}'), Reason.BAD_TIMESTAMP),
    (Message(b'{"x":1,"y":2,"z":3,"timestamp":"9999-01-31T12:00:00Z"}'), Reason.BAD_TIMESTAMP),
    (Message(b'{"x":1,"y":2,"z":3,"timestamp":-1}'), Reason.BAD_TIMESTAMP),
    (Message(b"[" + b",".join([GOOD] * (MAX_READINGS + 1)) + b"]"), Reason.TOO_LARGE),
    (Message(GOOD + b" " * 5_000_000), Reason.TOO_LARGE),
    (Message(GOOD, topic="devices/nobody/stats"), Reason.UNKNOWN_DEVICE),
    (Message(GOOD, topic="devices/99999999999999999999999/stats"), Reason.UNKNOWN_DEVICE),
    (Message(GOOD, topic="devices/'; DROP TABLE devices; --/stats"), Reason.BAD_TOPIC),
    (Message(GOOD, topic="devices//stats"), Reason.BAD_TOPIC),
    (Message(GOOD, topic=f"devices/{'k' * 129}/stats"), Reason.BAD_TOPIC),
]


async def test_what_the_contract_does_not_allow_becomes_a_dead_letter_and_its_neighbours_are_stored(
    device: int, make_settings: Callable[..., Settings], broker: Broker, database: Database
) -> None:
    settings = make_settings()
    neighbours = [Message(b'{"x":%d,"y":7,"z":7,"unit":"mm"}' % n) for n in range(len(BAD))]
    mixed = [m for (bad, _), good in zip(BAD, neighbours, strict=True) for m in (bad, good)]
    async with running_ingestor(settings):
        await publish(broker.host, broker.port, *mixed)
        figures = await until_settled(settings, len(mixed) + 1)  # one array has a good reading and a bad one
    assert await rows(database, "SELECT x FROM readings WHERE y = 7 ORDER BY x") == [
        (float(n),) for n in range(len(BAD))
    ]
    letters = await rows(database, "SELECT topic, payload, reason, detail FROM dead_letters ORDER BY received_at")
    assert [(letter[0], letter[2]) for letter in letters] == [(bad.topic, reason) for bad, reason in BAD]
    assert all(letter[3] for letter in letters)
    assert [letter[1] for letter in letters] == [
        bad.payload[:PREFIX_BYTES] if reason is Reason.TOO_LARGE else bad.payload for bad, reason in BAD
    ]
    lengths = await rows(database, "SELECT payload_bytes FROM dead_letters ORDER BY received_at")
    assert lengths == [(len(bad.payload),) for bad, _ in BAD]
    counted = Counter(reason for _, reason in BAD)
    for reason in Reason:
        assert figures[f'devicestat_ingest_readings_rejected_total{{reason="{reason}"}}'] == counted[reason]


async def test_equal_readings_without_a_timestamp_all_count_and_with_one_only_once(
    device: int, make_settings: Callable[..., Settings], broker: Broker, database: Database
) -> None:
    settings = make_settings()
    timed = b'{"x":1,"y":2,"z":3,"timestamp":1700000000}'
    async with running_ingestor(settings):
        await publish(broker.host, broker.port, *[Message(GOOD)] * 100, *[Message(timed)] * 100)
        figures = await until_settled(settings, 200)
    assert figures["devicestat_ingest_readings_stored_total"] == 101
    assert figures["devicestat_ingest_readings_duplicate_total"] == 99
    assert await rows(database, "SELECT count(*) FROM readings") == [(101,)]


async def test_a_retained_reading_is_counted_once_over_new_connections(
    device: int, make_settings: Callable[..., Settings], broker: Broker, database: Database
) -> None:
    settings = make_settings()
    for _ in range(2):
        async with running_ingestor(settings):
            pass
    async with running_ingestor(settings):
        await publish(broker.host, broker.port, Message(GOOD, retain=True))
        await until_settled(settings, 1)
    async with running_ingestor(settings):
        await publish(broker.host, broker.port, Message(b'{"x":9,"y":9,"z":9}'))
        await until_settled(settings, 1)
    assert await rows(database, "SELECT x FROM readings ORDER BY x") == [(1.0,), (9.0,)]


async def test_a_device_registered_a_moment_ago_is_known_at_its_first_message(
    make_settings: Callable[..., Settings], broker: Broker, database: Database
) -> None:
    """This includes a device that has published too early, within the second for which an unknown key is cached."""
    settings = make_settings()
    async with running_ingestor(settings), api(settings) as client:
        for n in range(20):
            message = Message(GOOD, topic=f"devices/new-{n}/stats")
            await publish(broker.host, broker.port, message)
            await until_settled(settings, 2 * n + 1)
            assert (await client.post("/devices", json={"name": "new", "key": f"new-{n}"})).status_code == 201
            await publish(broker.host, broker.port, message)
            figures = await until_settled(settings, 2 * n + 2)
    assert figures["devicestat_ingest_readings_stored_total"] == 20
    assert figures['devicestat_ingest_readings_rejected_total{reason="unknown_device"}'] == 20


async def test_unknown_devices_are_registered_where_the_settings_say_so(
    make_settings: Callable[..., Settings], broker: Broker, database: Database
) -> None:
    settings = make_settings(unknown_devices="register")
    async with running_ingestor(settings):
        topics = [f"devices/{key}/stats" for key in ("lathe-7", "12", "lathe-7", "with space")]
        await publish(broker.host, broker.port, *(Message(GOOD, topic=topic) for topic in topics))
        await until_settled(settings, 4)
    found = "SELECT key, name, count(*) FROM readings JOIN devices d ON d.id = device_id GROUP BY 1, 2 ORDER BY 1"
    assert await rows(database, found) == [("12", "12", 1), ("lathe-7", "lathe-7", 2)]
    assert await rows(database, "SELECT topic, reason FROM dead_letters") == [("devices/with space/stats", "bad_topic")]


async def test_nothing_is_registered_or_stored_under_the_key_of_the_probe(
    make_settings: Callable[..., Settings], broker: Broker, database: Database
) -> None:
    settings = make_settings(unknown_devices="register")
    async with running_ingestor(settings):
        for key in ("devicestat-probe", "lathe-7"):
            await publish(broker.host, broker.port, Message(GOOD, topic=f"devices/{key}/stats"))
        await until_settled(settings, 2)
    assert await rows(database, "SELECT key FROM devices") == [("lathe-7",)]
    refused = await rows(database, "SELECT topic, reason FROM dead_letters")
    assert refused == [("devices/devicestat-probe/stats", "unknown_device")]


async def test_what_was_published_while_the_ingestor_was_away_is_stored_when_it_is_back(
    device: int, make_settings: Callable[..., Settings], broker: Broker, database: Database
) -> None:
    settings = make_settings()
    async with running_ingestor(settings):
        pass
    await publish(broker.host, broker.port, *(Message(b'{"x":%d,"y":0,"z":0}' % n) for n in range(500)))
    async with running_ingestor(settings):
        await until_settled(settings, 500)
    assert await rows(database, "SELECT count(*), count(DISTINCT x) FROM readings") == [(500, 500)]


async def test_a_row_that_only_the_database_refuses_ends_alone_in_the_dead_letters(
    device: int, make_settings: Callable[..., Settings], broker: Broker, database: Database
) -> None:
    await database.execute("ALTER TABLE readings ADD CONSTRAINT not_thirteen CHECK (x <> 13)")
    settings = make_settings()
    async with running_ingestor(settings):
        payload = b"[" + b",".join(b'{"x":%d,"y":0,"z":0}' % n for n in range(1000)) + b"]"
        await publish(broker.host, broker.port, Message(payload))
        figures = await until_settled(settings, 1000)
    assert figures["devicestat_ingest_readings_stored_total"] == 999
    assert await rows(database, "SELECT count(*), count(*) FILTER (WHERE x = 13) FROM readings") == [(999, 0)]
    asked = "SELECT payload, reasons, faults, refused, detail FROM dead_letters"
    ((kept, reasons, faults, refused, detail),) = await rows(database, asked)
    assert (kept, reasons) == (payload, {"database_refused": 1})
    assert faults == [{"index": 13, "reason": "database_refused", "detail": detail}]
    assert "not_thirteen" in str(detail)
    assert refused == bytes([0, 1 << 5])


async def test_a_month_that_was_dropped_is_made_again(
    device: int, make_settings: Callable[..., Settings], broker: Broker, database: Database
) -> None:
    settings = make_settings()
    old = b'{"x":%d,"y":2,"z":3,"timestamp":"2019-05-05T00:00:00Z"}'
    async with running_ingestor(settings):
        await publish(broker.host, broker.port, Message(old % 1))
        await until_settled(settings, 1)
        await database.execute("DROP TABLE readings_2019_05")
        await publish(broker.host, broker.port, Message(old % 2))
        await until_settled(settings, 2)
    assert await rows(database, "SELECT x FROM readings") == [(2.0,)]


async def test_a_hundred_thousand_messages_at_full_speed_are_exactly_a_hundred_thousand_rows(
    device: int, make_settings: Callable[..., Settings], broker: Broker, database: Database
) -> None:
    settings, count = make_settings(), 100_000
    payloads = [b'{"x":%d.%03d,"y":0,"z":0}' % divmod(n, 1000) for n in range(count)]
    async with running_ingestor(settings):
        await publish_lines(broker.host, broker.port, "devices/1/stats", payloads)
        figures = await until_settled(settings, count)
    assert figures["devicestat_ingest_readings_received_total"] == count
    assert figures["devicestat_ingest_readings_stored_total"] == count
    assert await rows(database, "SELECT count(*), count(DISTINCT x) FROM readings") == [(count, count)]


async def test_sigterm_stores_pending_messages_and_exits_0(
    device: int,
    make_settings: Callable[..., Settings],
    broker: Broker,
    database: Database,
    start_ingestor: Callable[..., IngestorProcess],
) -> None:
    settings = make_settings(batch_linger_ms=60_000)  # after the first batch, only the stop writes one
    process = start_ingestor(settings)
    await process.until_ready()
    await publish(broker.host, broker.port, Message(GOOD))
    stored, received = (f"devicestat_ingest_readings_{fate}_total" for fate in ("stored", "received"))
    await eventually(lambda: metrics(settings.ingestor_metrics_port), lambda figures: figures[stored] == 1)
    await publish(broker.host, broker.port, *[Message(GOOD)] * 9)
    await eventually(lambda: metrics(settings.ingestor_metrics_port), lambda figures: figures[received] == 10)
    code, logged = await process.end()
    assert code == 0, logged
    assert "Traceback" not in logged
    assert await rows(database, "SELECT count(*) FROM readings") == [(10,)]
    settings = make_settings()  # the same session, the usual linger
    async with running_ingestor(settings):
        await publish(broker.host, broker.port, Message(GOOD))  # after all messages that the broker would redeliver
        figures = await until_settled(settings, 1)
    assert figures["devicestat_ingest_messages_redelivered_total"] == 0
