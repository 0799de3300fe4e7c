"""A broker delivers packets that no client library would send: the ingestor continues, and counts each once."""

from collections.abc import Callable

from shared.settings import Settings
from tests.conftest import Broker, Database
from tests.faults.stream import expect_a_good_end
from tests.ingestion import IngestorProcess, metrics
from tests.malformed import READING, field, publish, user_property
from tests.publisher import Message
from tests.publisher import publish as publish_by_paho
from tests.scripted_broker import delivering
from tests.waiting import eventually

EMPTY = "devicestat_ingest_messages_empty_total"
IN_FLIGHT = "devicestat_ingest_readings_in_flight"
_COUNTED = "devicestat_ingest_readings_"
_LETTERS = "SELECT topic, content_type, reason, payload FROM dead_letters ORDER BY received_at"

Start = Callable[..., IngestorProcess]


async def add_device(database: Database) -> None:
    await database.execute("INSERT INTO devices (id, key, name) VALUES (1, '1', 'press')")


async def rows(database: Database, query: str) -> list[tuple[object, ...]]:
    return await (await database.execute(query.encode())).fetchall()


async def count_of_readings(database: Database) -> int:
    ((count,),) = await rows(database, "SELECT count(*) FROM readings")
    assert isinstance(count, int)
    return count


def content_type(text: bytes) -> bytes:
    return b"\x03" + field(text)


async def test_malformed_texts_become_dead_letters_on_the_same_connection(
    make_settings: Callable[..., Settings], database: Database, start_ingestor: Start
) -> None:
    await add_device(database)
    packets = [
        publish(packet_id=1),
        publish(b"devices/\xff/stats", packet_id=2),
        publish(properties=content_type(b"\xc0\x80"), packet_id=3),
        publish(properties=b"\x08" + field(b"\xff"), packet_id=4),
        publish(properties=user_property(b"\xff", b"note"), packet_id=5),
        publish(properties=content_type(b"a") + content_type(b"b"), packet_id=6),
        publish(b"devices/\0/stats", packet_id=7),
        publish(payload=b"{}", properties=content_type(b"text\0/plain"), packet_id=8),
        publish(payload=b"", packet_id=9),
        publish(packet_id=10),
    ]
    async with delivering(packets) as broker:
        process = start_ingestor(make_settings(mqtt_url=broker.url))
        await process.until_ready()
        await broker.acknowledged()
        figures = await metrics(process.port)
        code, logged = await process.end()
    assert code == 0, logged
    assert logged.count("panicked") == 1, "the codec's own words; after that the texts are looked at first"
    assert logged.count("the broker delivered a malformed message") == 1
    assert len(broker.connects) == 1
    assert broker.connects[0].max_packet_size == 16 * 1024 * 1024
    assert await count_of_readings(database) == 2
    assert await rows(database, _LETTERS) == [
        ("devices/#FF/stats", None, "bad_topic", READING),
        ("devices/1/stats", "#C0#80", "malformed", READING),
        ("devices/1/stats", None, "malformed", READING),
        ("devices/1/stats", None, "malformed", READING),
        ("devices/1/stats", "a", "malformed", READING),
        ("devices/#00/stats", None, "bad_topic", READING),
        ("devices/1/stats", "text#00/plain", "invalid_reading", b"{}"),
    ]
    rejected = sum(value for name, value in figures.items() if name.startswith(f"{_COUNTED}rejected_total"))
    assert (rejected, figures[EMPTY]) == (7, 1)
    assert figures[f"{_COUNTED}received_total"] == figures[f"{_COUNTED}stored_total"] + rejected == 9


async def test_what_cannot_be_acknowledged_has_the_connection_made_anew_and_says_so(
    make_settings: Callable[..., Settings], database: Database, start_ingestor: Start
) -> None:
    """A PUBLISH that is too short for its packet id cannot be answered. No broker is known to send it."""
    await add_device(database)
    async with delivering([publish(packet_id=1), b"\x32\x04\x00\x02ab"]) as broker:
        process = start_ingestor(make_settings(mqtt_url=broker.url))

        async def said() -> str:
            return process.logged

        await eventually(said, lambda log: log.count("sent a malformed packet") >= 2)
        assert process.process.poll() is None
        await eventually(lambda: count_of_readings(database), lambda count: count == 1)
        await expect_a_good_end(process)


async def test_an_empty_payload_is_counted_and_no_dead_letter(
    make_settings: Callable[..., Settings], broker: Broker, database: Database, start_ingestor: Start
) -> None:
    await add_device(database)
    process = start_ingestor(make_settings())
    await process.until_ready()
    await publish_by_paho(
        broker.host,
        broker.port,
        Message(b""),
        Message(b"", topic="devices/nobody/stats"),
        Message(b"\xef\xbb\xbf" + READING),
        Message(READING + b"\0\0"),
        Message(READING.decode().encode("utf-16")),
    )
    figures = await eventually(
        lambda: metrics(process.port), lambda seen: seen[f"{_COUNTED}received_total"] == 3 and seen[IN_FLIGHT] == 0
    )
    assert figures[EMPTY] == 2
    await expect_a_good_end(process)
    assert await count_of_readings(database) == 2
    assert await rows(database, "SELECT reason, detail FROM dead_letters") == [
        ("malformed", "the payload is UTF-16: send UTF-8")
    ]


async def test_a_dead_letter_that_the_database_refuses_keeps_nothing_from_its_batch(
    make_settings: Callable[..., Settings], broker: Broker, database: Database, start_ingestor: Start
) -> None:
    await add_device(database)
    await database.execute("ALTER TABLE dead_letters ADD CHECK (topic !~ 'ö'), ADD CHECK (payload <> 'no')")
    process = start_ingestor(make_settings(batch_linger_ms=500))
    await process.until_ready()
    await publish_by_paho(
        broker.host,
        broker.port,
        Message(b"{}"),
        Message(b"yes", topic="devices/ö x/stats"),
        Message(b"no"),
        Message(READING),
        Message(b"[]"),
    )
    await eventually(lambda: metrics(process.port), lambda seen: seen[f"{_COUNTED}stored_total"] == 1)
    await expect_a_good_end(process)
    assert await rows(database, "SELECT topic, payload FROM dead_letters ORDER BY received_at") == [
        ("devices/1/stats", b"{}"),
        ("devices/#C3#B6 x/stats", b"yes"),
        ("devices/1/stats", b""),
        ("devices/1/stats", b"[]"),
    ]
    ((detail,),) = await rows(database, "SELECT detail FROM dead_letters WHERE payload = ''")
    assert "the database refused the dead letter" in str(detail)
    assert "without its payload of 2 bytes" in str(detail)
