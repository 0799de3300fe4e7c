"""A subscription that delivers nothing on a working connection: the ingestor is not ready, and subscribes again."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from mqtt5 import PubAckReasonCode

from ingestor.session.session import Session
from ingestor.session.subscription_check import CheckTiming, SubscriptionCheck
from shared.settings import Settings
from tests.closed_broker import ClosedBroker
from tests.conftest import Broker, Database
from tests.ingestion import health, metrics, running_ingestor, until_not_ready, until_ready
from tests.publisher import Message, publish
from tests.quirky_broker import Quirks, QuirkyBroker, quirky
from tests.waiting import eventually

PLAIN = "devices/+/stats"
PROBE = "devices/devicestat-probe/stats"
READING = b'{"x":1,"y":2,"z":3}'
EMPTY = "devicestat_ingest_messages_empty_total"

Make = Callable[..., Settings]


SHORT = CheckTiming(first_silence_s=0.2, silence_s=0.2, longest_silence_s=0.2, delivered_within_s=0.5)
IMPATIENT = partial(Session, check=partial(SubscriptionCheck, timing=SHORT))
"""A session that probes after a short silence."""


@pytest.fixture
def make(make_settings: Make) -> Callable[..., Settings]:
    def make(broker: QuirkyBroker, **changes: object) -> Settings:
        return make_settings(mqtt_url=broker.url, **changes)

    return make


async def until(condition: Callable[[], Any]) -> None:
    async def holds() -> bool:
        return bool(condition())

    await eventually(holds, bool)


async def why(settings: Settings) -> str:
    return str((await health(settings.ingestor_metrics_port))["parts"]["broker"])


async def test_a_subscription_that_is_gone_is_found_out_and_mended(make: Make, database: Database) -> None:
    await database.execute("INSERT INTO devices (id, key, name) VALUES (1, '1', 'press')")
    async with quirky() as broker:
        settings = make(broker)
        async with running_ingestor(settings, IMPATIENT):
            await until(lambda: PROBE in broker.published)
            assert broker.asked == [f"SUBSCRIBE {PLAIN}"]
            broker.forget()
            await until(lambda: len(broker.asked) == 2)
            assert broker.asked[1] == f"SUBSCRIBE {PLAIN}"
            await until_ready(settings.ingestor_metrics_port)
            assert broker.deliver("devices/1/stats", READING) == 1

            async def stored() -> int:
                row = await (await database.execute("SELECT count(*) FROM readings")).fetchone()
                assert row is not None
                return int(row[0])

            await eventually(stored, lambda count: count == 1)


async def test_readiness_ends_while_nothing_comes_and_the_first_message_brings_it_back(make: Make) -> None:
    async with quirky(Quirks(restores=False)) as broker:
        settings = make(broker)
        async with running_ingestor(settings, IMPATIENT):
            await until(lambda: PROBE in broker.published)
            (session,) = (one for one in broker.sessions.values() if one.patterns)
            broker.forget()
            await until_not_ready(settings.ingestor_metrics_port)
            assert f"the subscription to {PLAIN} delivers nothing" in await why(settings)
            session.patterns.add(PLAIN)
            await until_ready(settings.ingestor_metrics_port)


async def test_a_group_of_which_no_member_is_subscribed_is_found_out(make: Make) -> None:
    """The broker reports it with PUBACK 0x10, no matching subscribers."""
    shared = f"$share/plant/{PLAIN}"
    async with quirky(Quirks(restores=False)) as broker:
        settings = make(broker, mqtt_topic=shared)
        async with running_ingestor(settings, IMPATIENT):
            await until(lambda: PROBE in broker.published)
            broker.forget()
            await until_not_ready(settings.ingestor_metrics_port)
            assert f"the subscription to {shared} delivers nothing" in await why(settings)


@pytest.mark.parametrize("refuses", [PubAckReasonCode.NOT_AUTHORIZED, PubAckReasonCode.QUOTA_EXCEEDED])
async def test_where_the_probe_is_refused_the_subscription_is_renewed(refuses: PubAckReasonCode, make: Make) -> None:
    async with quirky(Quirks(refuses=refuses)) as broker:
        settings = make(broker)
        async with running_ingestor(settings, IMPATIENT):
            await until(lambda: len(broker.asked) >= 2)
            broker.forget()
            await until(lambda: broker.deliver(PROBE, b"") == 1)
            assert await why(settings) == "ok"


async def test_a_broker_that_swallows_probes_is_not_held_against_the_subscription_once_a_message_came(
    make: Make, database: Database
) -> None:
    async with quirky(Quirks(swallows=True)) as broker:
        settings = make(broker)
        async with running_ingestor(settings, IMPATIENT):
            await until_not_ready(settings.ingestor_metrics_port)
            broker.deliver("devices/1/stats", READING)
            await until_ready(settings.ingestor_metrics_port)
            published = len(broker.published)
            asked = len(broker.asked)
            await until(lambda: len(broker.asked) >= asked + 2)
            assert len(broker.published) <= published + 1  # one may be in flight
            assert await why(settings) == "ok"


async def test_on_mosquitto_the_probe_comes_back_and_leaves_no_row(
    make_settings: Make, broker: Broker, database: Database
) -> None:
    settings = make_settings()
    async with running_ingestor(settings, IMPATIENT):
        await eventually(lambda: metrics(settings.ingestor_metrics_port), lambda seen: seen[EMPTY] >= 2)
        assert await why(settings) == "ok"
        await publish(broker.host, broker.port, Message(READING))

        async def refused() -> int:
            row = await (await database.execute("SELECT count(*) FROM dead_letters")).fetchone()
            assert row is not None
            return int(row[0])

        await eventually(refused, bool)
    rows = await database.execute("SELECT (SELECT count(*) FROM readings), array_agg(topic) FROM dead_letters")
    assert await rows.fetchone() == (0, ["devices/1/stats"])


async def test_a_closed_mosquitto_allows_the_probe(make_settings: Make, tmp_path_factory: Any) -> None:
    with ClosedBroker(tmp_path_factory.mktemp("closed")) as closed:
        settings = closed.settings(make_settings())
        async with running_ingestor(settings, IMPATIENT):
            await eventually(lambda: metrics(settings.ingestor_metrics_port), lambda seen: seen[EMPTY] >= 1)
            assert await why(settings) == "ok"
