"""Subscriptions of the session on different brokers: it never ends a subscription that it did not have."""

import asyncio
from collections.abc import Callable
from functools import partial

import msgspec
import pytest

from ingestor.mqtt.requests import HIGHEST_ID
from shared.settings import Settings
from tests.conftest import Database
from tests.ingestion import running_ingestor
from tests.proxy import Link, Proxy, open_postgres, running, through
from tests.quirky_broker import Quirks, QuirkyBroker, Session, quirky
from tests.waiting import HANG_S, eventually

PLAIN = "devices/+/stats"
SHARED = "$share/plant/devices/+/stats"
OURS = "$share/devicestat-ingestor/devices/+/stats"
CLIENT_ID = "devicestat-ingestor"
READING = b'{"x":1,"y":2,"z":3}'

Make = Callable[..., Settings]


@pytest.fixture
def make(make_settings: Make) -> Callable[..., Settings]:
    """Settings for a quirky broker."""

    def make(broker: QuirkyBroker, topic: str = PLAIN) -> Settings:
        return make_settings(mqtt_url=broker.url, mqtt_topic=topic, mqtt_client_id=CLIENT_ID)

    return make


async def stored_filters(database: Database) -> list[str]:
    rows = await (await database.execute("SELECT topic_filter FROM ingest_subscriptions ORDER BY 1")).fetchall()
    return [pattern for (pattern,) in rows]


async def readings(database: Database) -> int:
    row = await (await database.execute("SELECT count(*) FROM readings")).fetchone()
    assert row is not None
    return int(row[0])


async def expect_stored(broker: QuirkyBroker, database: Database) -> None:
    """Check that a message that is published now is stored once."""
    await database.execute("INSERT INTO devices (id, key, name) VALUES (1, '1', 'press') ON CONFLICT DO NOTHING")
    before = await readings(database)
    assert broker.deliver("devices/1/stats", READING) == 1
    await eventually(lambda: readings(database), lambda count: count == before + 1)


@pytest.mark.parametrize("one_form", [False, True])
async def test_a_session_that_comes_back_is_unsubscribed_from_nothing(
    *, one_form: bool, make: Callable[..., Settings], database: Database
) -> None:
    async with quirky(Quirks(one_form=one_form)) as broker:
        for _ in range(3):
            async with running_ingestor(make(broker)):
                await expect_stored(broker, database)
    assert broker.asked == [f"SUBSCRIBE {PLAIN}"] * 3
    assert await stored_filters(database) == [PLAIN]


@pytest.mark.parametrize("one_form", [False, True])
async def test_a_session_of_before_the_table_is_rid_of_the_other_form_and_hears(
    *, one_form: bool, make: Callable[..., Settings], database: Database
) -> None:
    async with quirky(Quirks(one_form=one_form)) as broker:
        earlier = broker.sessions[CLIENT_ID] = Session()
        earlier.patterns = {PLAIN} if one_form else {PLAIN, OURS}
        for _ in range(2):
            async with running_ingestor(make(broker)):
                await expect_stored(broker, database)
    replaced = [f"SUBSCRIBE {PLAIN}", f"UNSUBSCRIBE {OURS}", f"SUBSCRIBE {PLAIN}"]
    assert broker.asked == [*replaced, f"SUBSCRIBE {PLAIN}"]
    assert earlier.patterns == {PLAIN}


@pytest.mark.parametrize("one_form", [False, True])
async def test_another_filter_replaces_the_one_of_before(
    *, one_form: bool, make: Callable[..., Settings], database: Database
) -> None:
    async with quirky(Quirks(one_form=one_form)) as broker:
        for topic in (PLAIN, SHARED, SHARED, PLAIN):
            async with running_ingestor(make(broker, topic)):
                assert broker.sessions[CLIENT_ID].patterns == {topic}
                assert await stored_filters(database) == [topic]
                await expect_stored(broker, database)
    assert broker.asked == [
        f"SUBSCRIBE {PLAIN}",
        *(f"SUBSCRIBE {SHARED}", f"UNSUBSCRIBE {PLAIN}", f"SUBSCRIBE {SHARED}"),
        f"SUBSCRIBE {SHARED}",
        *(f"SUBSCRIBE {PLAIN}", f"UNSUBSCRIBE {SHARED}", f"SUBSCRIBE {PLAIN}"),
    ]


async def test_what_a_killed_ingestor_was_about_to_end_is_ended_by_the_next_one(
    make: Callable[..., Settings], database: Database
) -> None:
    async with quirky() as broker:
        async with running_ingestor(make(broker)):
            pass
        # Killed between its SUBSCRIBE to the shared form and the UNSUBACK of the plain one.
        await database.execute("INSERT INTO ingest_subscriptions VALUES (%s, %s)", (CLIENT_ID, SHARED))
        broker.sessions[CLIENT_ID].patterns.add(SHARED)
        async with running_ingestor(make(broker, SHARED)):
            assert broker.sessions[CLIENT_ID].patterns == {SHARED}


async def test_a_broker_that_has_lost_the_session_has_no_subscription_to_end(
    make: Callable[..., Settings], database: Database
) -> None:
    async with quirky() as broker, running_ingestor(make(broker)):
        pass
    async with quirky() as emptied, running_ingestor(make(emptied, SHARED)):
        await expect_stored(emptied, database)
    assert emptied.asked == [f"SUBSCRIBE {SHARED}"]
    assert await stored_filters(database) == [SHARED]


@pytest.mark.parametrize("taken", [{1, 2, 3}, {HIGHEST_ID}])
async def test_a_broker_with_one_table_of_packet_ids_takes_the_subscription(
    taken: set[int], make: Callable[..., Settings], database: Database
) -> None:
    """mochi answers 0x91 to a SUBSCRIBE with the packet id of a message that it has delivered."""
    async with quirky(Quirks(one_table_of_ids=True)) as broker:
        broker.sessions[CLIENT_ID] = Session()
        broker.sessions[CLIENT_ID].in_flight = set(taken)
        async with running_ingestor(make(broker)):
            assert broker.sessions[CLIENT_ID].patterns == {PLAIN}
            await expect_stored(broker, database)


class LateProxy(Proxy):
    """Proxy of PostgreSQL that delays the first DELETE of a filter until it is released.

    Meanwhile the client's connection breaks, as in a short failure of the network.
    """

    def __init__(self, url: str) -> None:
        super().__init__(partial(open_postgres, url))
        self.held: Link | None = None
        self.released, self.carried_out = asyncio.Event(), asyncio.Event()

    async def client_sends(self, link: Link, data: bytes) -> None:
        if self.held is None and b"DELETE FROM ingest_subscriptions" in data:
            self.held = link
            link.to_client.transport.abort()
            await self.released.wait()
            link.to_server.write(data)
            await self.carried_out.wait()
        else:
            await super().client_sends(link, data)

    async def server_sends(self, link: Link, data: bytes) -> None:
        if link is self.held:
            self.carried_out.set()
        else:
            await super().server_sends(link, data)


async def test_a_late_delete_of_an_earlier_ingestor_leaves_the_filter_of_now(
    make: Callable[..., Settings], database: Database, database_url: str
) -> None:
    other = "plant/+/stats"
    async with quirky() as broker:
        async with running(LateProxy(database_url)) as proxy:
            for topic in (SHARED, PLAIN):
                settings = msgspec.structs.replace(make(broker, topic), database_url=through(proxy, database_url))
                async with running_ingestor(settings):
                    assert await stored_filters(database) == [topic]
            assert proxy.held is not None
            async with running_ingestor(make(broker, SHARED)):
                proxy.released.set()
                await asyncio.wait_for(proxy.carried_out.wait(), HANG_S)
                assert await stored_filters(database) == [SHARED]
        async with running_ingestor(make(broker, other)):
            assert broker.sessions[CLIENT_ID].patterns == {other}
