"""The properties of a message are not kept, or count towards the limit on the ingestor's pending bytes."""

import asyncio
from collections.abc import Callable
from functools import partial

import pytest
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from ingestor.delivery.backlog import HIGH_BYTES
from shared.postgres.connections import connect
from shared.settings import Settings
from tests.conftest import Broker
from tests.faults.memory import MIB, watched
from tests.faults.stream import IN_FLIGHT, add_devices, expect_a_good_end, reading
from tests.ingestion import IngestorProcess, metrics
from tests.publisher import connected
from tests.services import database_away
from tests.waiting import HANG_S, eventually

LONG = 60_000
"""Bytes of a topic, and of each text in the properties; the maximum is 65,535."""
MESSAGES = 1_000
AT_ONCE = 50
IN_HAND = 48 * MIB
"""The limit of 16 MiB of pending bytes, and an allowance for other memory. All messages together take more."""

RECEIVED = "devicestat_ingest_readings_received_total"


def publish_with(broker: Broker, topic: str, properties: Properties) -> None:
    """Publish the messages; wait until the broker has acknowledged them."""
    with connected(broker.host, broker.port) as client:
        for first in range(0, MESSAGES, AT_ONCE):
            numbers = range(first, first + AT_ONCE)
            sent = [client.publish(topic, reading(number), qos=1, properties=properties) for number in numbers]
            for info in sent:
                info.wait_for_publish(HANG_S)
                assert info.is_published()


def properties(**values: object) -> Properties:
    """Return properties of a PUBLISH."""
    given = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
    for name, value in values.items():
        setattr(given, name, value)
    return given


@pytest.mark.parametrize(
    ("topic", "carried", "in_hand"),
    [
        pytest.param("devices/1/stats", properties(UserProperty=("note", "n" * LONG)), MESSAGES, id="user property"),
        pytest.param("devices/x/stats", properties(ContentType="c" * LONG), HIGH_BYTES // LONG, id="content type"),
        pytest.param(f"devices/{'k' * LONG}/stats", properties(), HIGH_BYTES // LONG, id="topic"),
    ],
)
async def test_what_waits_is_bounded_whatever_the_messages_carry(
    topic: str,
    carried: Properties,
    in_hand: int,
    make_settings: Callable[..., Settings],
    broker: Broker,
    postgres_server: str,
    database_url: str,
    start_ingestor: Callable[..., IngestorProcess],
) -> None:
    async with await connect(database_url, "test") as database:
        await add_devices(database)
    process = start_ingestor(make_settings())
    await process.until_ready()
    look = partial(metrics, process.port)
    async with watched(process.process.pid) as memory:
        before = memory.peak
        async with database_away(postgres_server, database_url):
            await asyncio.to_thread(publish_with, broker, topic, carried)
            await eventually(look, lambda seen: seen[IN_FLIGHT] >= in_hand)
        await eventually(look, lambda seen: seen[RECEIVED] == MESSAGES and seen[IN_FLIGHT] == 0)
    assert memory.peak - before < IN_HAND
    await expect_a_good_end(process)
