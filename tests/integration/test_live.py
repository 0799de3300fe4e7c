"""GET /stats/{device_id}/live: readings as they are stored, over MQTT or HTTP."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import httpx
import msgspec
import pytest

from ingestor.replay import Replay
from query_api.readings.live import reader as live_reader
from query_api.readings.live.listeners import LiveBounds
from query_api.serve.tuning import Tuning
from shared.access import keys as access_keys
from shared.access.credentials import Role
from shared.dead_letters.replaying import Replayed
from shared.readings import announce as live
from shared.readings import dead_letters
from shared.readings.announce import Interest
from shared.readings.model import SECOND, to_datetime, to_microseconds
from shared.readings.store import prepare
from shared.settings import Settings
from tests import command, services
from tests.conftest import Broker, Database
from tests.credentials import TESTER, bearer, key
from tests.ingestion import running_ingestor
from tests.letters import letter
from tests.ports import free_port
from tests.publisher import Message, publish
from tests.roles import url_as
from tests.waiting import HANG_S, eventually

NOON = 1_769_860_800 * SECOND  # 2026-01-31T12:00:00Z
A_SECOND = 1.0
EXPIRES_S = 0.1
WANTING = Tuning(live=LiveBounds(want_every_s=0.05))
KNOWING = Tuning(live=LiveBounds(known_after_s=0.0))
"""Processes that just subscribed assume that they know all wanted devices."""
EXPIRING = Tuning(live=LiveBounds(want_every_s=0.05, known_after_s=0.0, expires_s=EXPIRES_S))
Events = AsyncIterator[dict[str, Any]]


async def events_of(answer: httpx.Response) -> Events:
    event: dict[str, Any] = {}
    async for line in answer.aiter_lines():
        if line:
            field, _, value = line.partition(": ")
            event[field] = json.loads(value) if field == "data" else value
        elif event:
            yield event
            event = {}


@asynccontextmanager
async def listening(api: httpx.AsyncClient, device: int, **headers: str) -> AsyncIterator[Events]:
    """Yield the events of a stream that has started."""
    async with api.stream("GET", f"/stats/{device}/live", headers=headers) as answer:
        assert answer.status_code == 200, await answer.aread()
        events = events_of(answer)
        assert await next_of(events) == {"retry": "2000"}
        yield events


async def connections(database: Database) -> int:
    """Return the number of connections of live streams to the database."""
    cursor = await database.execute(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = %s",
        ("devicestat api live",),
    )
    row = await cursor.fetchone()
    assert row is not None
    return int(row[0])


async def next_of(events: Events) -> dict[str, Any]:
    async with asyncio.timeout(HANG_S):
        return await anext(events)


async def readings_of(events: Events, count: int) -> list[float]:
    """Return the x of the next `count` readings. Any other event is a failure."""
    found = [await next_of(events) for _ in range(count)]
    assert {event["event"] for event in found} == {"reading"}, found
    return [event["data"]["x"] for event in found]


async def store(api: httpx.AsyncClient, device: int, *xs: float, at: str | None = None) -> list[dict[str, Any]]:
    given = [{"device_id": device, "x": x, "y": 0, "z": 0, "timestamp": at} for x in xs]
    answer = await api.post("/stats", json=given)
    assert answer.status_code in (200, 201), answer.text
    stored: list[dict[str, Any]] = answer.json()
    return stored


@pytest.fixture
async def second(api_settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    """A second API on the database."""
    async with services.api(msgspec.structs.replace(api_settings, http_port=free_port()), KNOWING) as client:
        yield client


@pytest.mark.serve(KNOWING)
async def test_published_readings_are_sent_to_every_listener_of_every_api(
    make_settings: Callable[..., Settings], broker: Broker, api: httpx.AsyncClient, second: httpx.AsyncClient
) -> None:
    device = (await api.post("/devices", json={"name": "d", "key": "live"})).json()["id"]
    other = (await api.post("/devices", json={"name": "o", "key": "other"})).json()["id"]
    async with running_ingestor(make_settings(), interest=Interest(known_after_s=0.0)), AsyncExitStack() as stack:
        streams = [await stack.enter_async_context(listening(of, device)) for of in (api, api, second)]
        silent = await stack.enter_async_context(listening(api, other))
        again = Message(b'{"x":1,"y":2,"z":3,"timestamp":"2026-01-31T12:00:00Z"}', "devices/live/stats")
        await publish(broker.host, broker.port, again)
        for events in streams:
            event = await next_of(events)
            assert event["data"] == {
                "id": int(event["id"]), "device_id": device, "x": 1, "y": 2, "z": 3,
                "timestamp": "2026-01-31T12:00:00.000000Z",
            }  # fmt: skip
        array = b'[{"x":2,"y":0,"z":0},{"x":3,"y":0,"z":0},{"x":5000,"y":0,"z":0}]'
        await publish(broker.host, broker.port, again, Message(array, "devices/live/stats"))
        for events in streams:
            assert await readings_of(events, 2) == [2, 3]
        await publish(broker.host, broker.port, Message(b'{"x":9,"y":0,"z":0}', "devices/other/stats"))
        assert await readings_of(silent, 1) == [9]


@pytest.mark.serve(KNOWING)
async def test_posted_readings_are_sent_once_by_every_api(
    api: httpx.AsyncClient, second: httpx.AsyncClient, device: int
) -> None:
    async with listening(api, device) as here, listening(second, device) as there:
        at = "2026-01-31T12:00:00Z"
        await store(api, device, 1, 2, at=at)
        await store(second, device, 1, at=at)
        (stored,) = await store(second, device, 3, at="2020-01-31T12:00:00+02:00")
        for events in (here, there):
            assert await readings_of(events, 2) == [1, 2]
            assert (await next_of(events))["data"] == stored


async def test_all_listeners_share_one_connection(api: httpx.AsyncClient, database: Database) -> None:
    devices = [(await api.post("/devices", json={"name": "d"})).json()["id"] for _ in range(4)]
    assert await connections(database) == 0
    async with AsyncExitStack() as stack:
        streams = [await stack.enter_async_context(listening(api, devices[n % 4])) for n in range(20)]
        for device in devices:
            await store(api, device, 7)
        for events in streams:
            assert await readings_of(events, 1) == [7]
        assert await connections(database) == 1


async def test_replayed_readings_are_sent(api: httpx.AsyncClient, device: int, database: Database) -> None:
    sent = letter(f"devices/{device}/stats", b'{"x":4,"y":0,"z":0}', received_at=to_datetime(NOON))
    await dead_letters.add(database, [sent])
    await prepare(database)
    async with listening(api, device) as events:
        became = await Replay(Settings(), database).replay(1)
        assert became == Replayed(1, 0, {}, "")
        event = await next_of(events)
        assert (event["data"]["x"], event["data"]["timestamp"]) == (4, "2026-01-31T12:00:00.000000Z")


async def test_the_readings_of_a_span_are_found_by_index(database: Database) -> None:
    await database.execute("SELECT ensure_readings_partition('2026-01-01')")
    await database.execute(
        "INSERT INTO readings (device_id, recorded_at, received_at, x, y, z)"
        " SELECT n % 50, at, at, n % 1000, 0, 0 FROM generate_series(0, 9999) n,"
        " LATERAL (SELECT '2026-01-01'::timestamptz + n * interval '1 s' AS at) t"
    )
    await database.execute("ANALYZE readings")
    noon = to_microseconds(datetime(2026, 1, 1, 1, tzinfo=UTC))
    span = live.Span(7, noon, noon + SECOND, noon, noon + SECOND)
    for devices in ([7], [7, 8, 9]):
        cursor = await database.execute("EXPLAIN " + live_reader.READ, live_reader.read_parameters(span, devices))
        plan = "\n".join(row[0] for row in await cursor.fetchall())
        assert "Index Scan" in plan, plan
        assert "device_id" in plan, plan
        assert "Seq Scan" not in plan, plan


@pytest.mark.serve(EXPIRING)
async def test_after_the_last_listener_there_is_no_connection_and_no_notification(
    api: httpx.AsyncClient, device: int, database: Database
) -> None:
    await database.execute(f"LISTEN {live.STORED_CHANNEL}")
    async with listening(api, device) as events:
        await store(api, device, 1)
        assert await readings_of(events, 1) == [1]
    await eventually(lambda: connections(database), lambda count: count == 0)
    await asyncio.sleep(EXPIRES_S)
    await store(api, device, 2)
    said = [live.parse_span(heard.payload) async for heard in database.notifies(timeout=0.1)]
    assert len(said) == 1
    assert said[0] is not None
    assert said[0].device_id == device


async def test_the_places_are_limited(api_settings: Settings) -> None:
    async with services.api(api_settings, Tuning(live=LiveBounds(max_listeners=2))) as api:
        device = (await api.post("/devices", json={"name": "d"})).json()["id"]
        async with listening(api, device):
            async with listening(api, device):
                refused = await api.get(f"/stats/{device}/live")
                assert (refused.status_code, refused.headers["retry-after"]) == (503, "5")
                assert refused.json()["type"] == "/problems/unavailable"
            await eventually(lambda: is_taken(api, device), bool)


async def is_taken(api: httpx.AsyncClient, device: int) -> bool:
    async with api.stream("GET", f"/stats/{device}/live") as answer:
        return answer.status_code == 200


@pytest.mark.serve(WANTING)
async def test_a_stream_ends_with_its_device(api: httpx.AsyncClient, device: int) -> None:
    async with listening(api, device) as events:
        assert (await api.delete(f"/devices/{device}")).status_code == 204
        assert await next_of(events) == {"event": "end", "data": {"detail": "the device was deleted"}}
        with pytest.raises(StopAsyncIteration):
            await next_of(events)


async def device_of(api: httpx.AsyncClient) -> int:
    number: int = (await api.post("/devices", json={"name": "d"})).json()["id"]
    return number


@asynccontextmanager
async def listening_to_several(api: httpx.AsyncClient, *devices: int, **headers: str) -> AsyncIterator[Events]:
    parameters = {"device_id": list(devices)}
    async with api.stream("GET", "/stats/live", params=parameters, headers=headers) as answer:
        assert answer.status_code == 200, await answer.aread()
        events = events_of(answer)
        assert await next_of(events) == {"retry": "2000"}
        yield events


@pytest.mark.serve(WANTING)
async def test_several_devices_on_one_stream(api: httpx.AsyncClient, device: int) -> None:
    other, third = [await device_of(api) for _ in range(2)]
    async with listening_to_several(api, device, other, other) as events, listening(api, device) as alone:
        for of, x in ((device, 1), (third, 2), (other, 3), (device, 4)):
            await store(api, of, x)
        found = [(await next_of(events))["data"] for _ in range(3)]
        assert [(one["device_id"], one["x"]) for one in found] == [(device, 1), (other, 3), (device, 4)]
        assert await readings_of(alone, 2) == [1, 4]
        assert (await api.delete(f"/devices/{device}")).status_code == 204
        removed = {"event": "removed", "data": {"device_id": device, "detail": "the device was deleted"}}
        assert await next_of(events) == removed
        assert (await next_of(alone))["event"] == "end"
        await store(api, other, 5)
        assert await readings_of(events, 1) == [5]
        assert (await api.delete(f"/devices/{other}")).status_code == 204
        assert await next_of(events) == {"event": "end", "data": {"detail": "the device was deleted"}}
        with pytest.raises(StopAsyncIteration):
            await next_of(events)


async def test_a_gap_on_a_stream_of_several_devices_names_the_device(
    api: httpx.AsyncClient, device: int, postgres_server: str, database_url: str
) -> None:
    other = await device_of(api)
    headers = {"Last-Event-ID": "17"}
    async with listening_to_several(api, device, other, **headers) as events:
        assert (await next_of(events))["data"] == {"detail": "the stream was interrupted"}
        async with services.database_away(postgres_server, database_url):
            pass
        gaps = [await next_of(events) for _ in range(2)]
        assert {gap["event"] for gap in gaps} == {"gap"}
        assert {gap["data"]["device_id"] for gap in gaps} == {device, other}


async def test_a_stream_of_several_devices_is_one_stream(api_settings: Settings) -> None:
    async with services.api(api_settings, Tuning(live=LiveBounds(max_listeners=2))) as api:
        devices = [await device_of(api) for _ in range(3)]
        async with listening_to_several(api, *devices), listening_to_several(api, *devices[1:]):
            assert (await api.get(f"/stats/{devices[0]}/live")).status_code == 503
        await eventually(lambda: is_taken(api, devices[0]), bool)


async def test_refused_streams_of_several_devices(api: httpx.AsyncClient, device: int) -> None:
    many = "&".join(f"device_id={n}" for n in range(101))
    for query in ("", "device_id=x", many):
        refused = await api.get(f"/stats/live?{query}")
        assert (refused.status_code, refused.json()["errors"][0]["field"]) == (422, "device_id"), query
    unknown = await api.get(f"/stats/live?device_id={device}&device_id={device + 1}")
    assert (unknown.status_code, unknown.json()["type"]) == (404, "/problems/not-found")


async def test_a_stream_ends_within_a_second_of_its_key(api_settings: Settings, database: Database) -> None:
    """The stream of another key continues."""
    lost = await access_keys.create(database, TESTER, Role.ANALYST, "lost", None)
    kept = bearer(await key(database, Role.ADMIN))
    async with services.api(msgspec.structs.replace(api_settings, auth="on")) as api:
        device = (await api.post("/devices", json={"name": "d"}, headers=kept)).json()["id"]
        async with listening(api, device, **bearer(lost.text)) as ending, listening(api, device, **kept) as going_on:
            await access_keys.revoke(database, TESTER, lost.prefix)
            revoked = time.monotonic()
            event = await next_of(ending)
            assert time.monotonic() - revoked < 2 * A_SECOND
            assert event["event"] == "end"
            assert "revoked" in event["data"]["detail"]
            answer = await api.post("/stats", json={"device_id": device, "x": 5, "y": 0, "z": 0}, headers=kept)
            assert answer.status_code == 201
            assert await readings_of(going_on, 1) == [5]


async def test_an_outage_is_a_gap(api: httpx.AsyncClient, device: int, postgres_server: str, database_url: str) -> None:
    async with listening(api, device) as events:
        (before,) = await store(api, device, 1)
        assert await readings_of(events, 1) == [1]
        async with services.database_away(postgres_server, database_url):
            pass
        gap = await next_of(events)
        assert (gap["event"], gap["data"]["detail"]) == ("gap", "the database was unavailable")
        assert gap["data"]["since"] < before["timestamp"]
        await eventually(lambda: services.is_ready(api.base_url.port or 0), bool)
        await store(api, device, 2)
        assert await readings_of(events, 1) == [2]


@pytest.mark.serve(Tuning(live=LiveBounds(subscribed_within_s=1.0)))
async def test_a_batch_in_progress_at_the_start_of_a_stream_is_a_gap_or_is_waited_for(
    api: httpx.AsyncClient, device: int, database: Database
) -> None:
    """The batch may have begun before its writer was notified of the listener."""
    async with database.transaction():
        await database.execute("SELECT pass_deletion_fence()")
        async with listening(api, device) as events:
            assert (await next_of(events))["event"] == "gap"
    async with listening(api, device) as events:
        await store(api, device, 7)
        assert await readings_of(events, 1) == [7]


@pytest.mark.serve(Tuning(live=LiveBounds(max_events=3)))
async def test_a_slow_client_gets_the_number_of_dropped_readings(api: httpx.AsyncClient, device: int) -> None:
    async with listening(api, device) as events:
        stored = await store(api, device, 1, 2, 3, 4, 5)
        assert await readings_of(events, 3) == [1, 2, 3]
        dropped = await next_of(events)
        assert (dropped["event"], dropped["data"]) == ("dropped", {"count": 2, "since": stored[3]["timestamp"]})
        await store(api, device, 6)
        assert await readings_of(events, 1) == [6]


async def test_a_browser_that_reconnects_gets_a_gap(api: httpx.AsyncClient, device: int) -> None:
    async with listening(api, device, **{"Last-Event-ID": "17"}) as events:
        assert (await next_of(events))["data"] == {"detail": "the stream was interrupted"}


@pytest.mark.serve(Tuning(live=LiveBounds(heartbeat_s=0.05)))
async def test_a_stream_without_events_sends_heartbeats(api: httpx.AsyncClient, device: int) -> None:
    async with listening(api, device) as events:
        first, second = [await next_of(events) for _ in range(2)]
    assert first["event"] == second["event"] == "heartbeat"
    assert datetime.fromisoformat(first["data"]["time"]) < datetime.fromisoformat(second["data"]["time"])


async def test_the_headers_and_what_is_refused(api: httpx.AsyncClient, device: int) -> None:
    head = await api.head(f"/stats/{device}/live")
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert (head.headers["cache-control"], head.headers["x-accel-buffering"]) == ("no-store", "no")
    for unknown in (device + 1, 0, -1, 2**70):
        assert (await api.get(f"/stats/{unknown}/live")).status_code == 404
    assert (await api.get("/stats/north/live")).status_code == 422


async def test_a_served_stream_ends_with_the_service(api_settings: Settings, database: Database) -> None:
    row = await (await database.execute("INSERT INTO devices (key, name) VALUES ('d', 'd') RETURNING id")).fetchone()
    assert row is not None
    settings = {"database_url": url_as(api_settings.database, "api"), "http_port": api_settings.http_port}
    process = await asyncio.create_subprocess_exec(*command.argv("serve"), env=command.environment(**settings))
    try:
        await eventually(lambda: services.is_ready(api_settings.http_port), bool)
        async with services.client_of(api_settings.http_port) as api, listening(api, row[0]) as events:
            process.terminate()
            with pytest.raises(StopAsyncIteration):
                await next_of(events)
        assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
