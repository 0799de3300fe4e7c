"""Deletion of a device: later readings are refused immediately, and its data is removed in the background."""

import asyncio
import json
from collections.abc import Callable, Mapping
from contextlib import suppress

import aiomqtt
import httpx
import pytest
from psycopg import OperationalError

from ingestor.batch import Batch
from ingestor.delivery.journal import Journal
from ingestor.devices import Devices
from ingestor.payload.decode import Measurement
from ingestor.payload.refusals import Message
from ingestor.storing.writer import DevicesDeleted, Writer
from query_api.queue import claims as queue
from query_api.statistics.analysis import analyse
from query_api.worker.cleaning import deleted_devices, orphaned_ticks
from query_api.worker.maintenance import removal
from shared.postgres.connections import connect
from shared.readings.deletions import Fence, MarksMissed
from shared.readings.store import prepare
from shared.settings import Settings, parse_topic_filter
from tests import ingestion, services
from tests.claiming import claim_one
from tests.conftest import Broker, Database
from tests.ingestion import IngestorProcess, writer_of
from tests.waiting import eventually

READING = {"x": 1, "y": 2, "z": 3}


async def count(database: Database, query: str, *values: object) -> int:
    row = await (await database.execute(query, values)).fetchone()  # type: ignore[arg-type]
    assert row is not None
    return int(row[0])


async def readings_of(database: Database, device: int) -> int:
    return await count(database, "SELECT count(*) FROM readings WHERE device_id = %s", device)


_LEFT = """
    SELECT (SELECT count(*) FROM readings) + (SELECT count(*) FROM analysis_requests)
         + (SELECT count(*) FROM analysis_results) + (SELECT count(*) FROM analysis_ticks)
         + (SELECT count(*) FROM analysis_schedules)
"""


async def left_of_devices(database: Database) -> int:
    """Rows of any table that belong to a device."""
    return await count(database, _LEFT)


async def fill(database: Database, device: int, readings: int, moments: int) -> None:
    """Store `readings` readings with `moments` distinct times."""
    await database.execute(
        """
        INSERT INTO readings (device_id, recorded_at, received_at, x, y, z)
        SELECT %s, date_trunc('month', now()) + n %% %s * interval '1 second', now(), n %% 1000, n / 1000, 0
        FROM generate_series(1, %s) AS n
        """,
        (device, moments, readings),
    )


async def test_a_deleted_device_is_removed_with_its_data(
    api: httpx.AsyncClient, device: int, database: Database, api_settings: Settings
) -> None:
    await api.post("/stats", json=[{**READING, "device_id": device, "timestamp": 1_769_860_800 + n} for n in range(10)])
    queued = (await api.post(f"/stats/analysis/{device}/async")).json()["id"]
    schedule = {"device_id": device, "cron": "* * * * *", "period": "P1D"}
    scheduled = (await api.post("/stats/analysis/schedules", json=schedule)).json()["id"]
    await database.execute(
        "INSERT INTO analysis_results (request_id, device_id, x, y, z) VALUES (%s, %s, '{}', '{}', '{}')",
        (queued, device),
    )
    answer = await api.delete(f"/devices/{device}")
    assert (answer.status_code, answer.content) == (204, b"")
    requests, schedules = "/stats/analysis/requests", "/stats/analysis/schedules"
    for path in (
        f"/devices/{device}", f"/stats/{device}", f"/stats/analysis/{device}", f"/stats/analysis/result/{device}",
        f"/stats/analysis/result/{device}/1", f"{requests}/{queued}", f"{schedules}/{scheduled}",
    ):  # fmt: skip
        assert (await api.get(path)).status_code == 404, path
    for path in (f"{requests}/{queued}", f"{schedules}/{scheduled}", f"/stats/analysis/result/{device}/1"):
        assert (await api.delete(path)).status_code == 404, path
    assert (await api.patch(f"{schedules}/{scheduled}", json={"name": "n"})).status_code == 404
    for path in ("/devices", requests, schedules):
        assert (await api.get(path)).json() == [], path
    refused = await api.post("/stats", json={**READING, "device_id": device})
    assert (refused.status_code, refused.json()["type"]) == (400, "/problems/unknown-device")
    assert (await api.delete(f"/devices/{device}")).status_code == 404
    assert await claim_one(database) is None
    async with services.worker(api_settings):
        await eventually(lambda: left_of_devices(database), lambda left: left == 0)


@pytest.mark.parametrize("number", [0, -1, 2**63, 10**30])
async def test_an_unknown_device_cannot_be_deleted(api: httpx.AsyncClient, number: int) -> None:
    assert (await api.delete(f"/devices/{number}")).status_code == 404
    assert (await api.patch(f"/devices/{number}", json={"name": "n"})).status_code == 404


async def test_a_key_can_be_registered_again_as_another_device(api: httpx.AsyncClient) -> None:
    first = (await api.post("/devices", json={"name": "n", "key": "lathe"})).json()["id"]
    await api.post("/stats", json={**READING, "device_id": first})
    await api.delete(f"/devices/{first}")
    again = (await api.post("/devices", json={"name": "n", "key": "lathe"})).json()
    assert again["id"] != first
    assert (again["readings"], again["latest_reading"]) == (0, None)
    assert (await api.get(f"/stats/{again['id']}")).json() == []


async def test_a_message_of_a_deleted_device_is_refused_immediately(
    database: Database,
    broker: Broker,
    make_settings: Callable[..., Settings],
    start_ingestor: Callable[..., IngestorProcess],
) -> None:
    """The ingestor has cached the device, and learns of the deletion with the next message."""
    settings = make_settings()
    async with services.api(settings) as api, aiomqtt.Client(broker.host, broker.port) as client:
        device = (await api.post("/devices", json={"name": "n"})).json()["id"]
        await start_ingestor(settings).until_ready()
        topic = f"devices/{device}/stats"
        await client.publish(topic, json.dumps(READING), qos=1)
        await eventually(lambda: readings_of(database, device), lambda stored: stored == 1)
        await api.delete(f"/devices/{device}")
        await client.publish(topic, json.dumps([READING, READING]), qos=1)
        unknown = "SELECT count(*) FROM dead_letters WHERE reason = 'unknown_device' AND topic = %s"
        await eventually(lambda: count(database, unknown, topic), lambda letters: letters > 0)
        assert await readings_of(database, device) == 1
        await api.post("/devices", json={"name": "n", "key": str(device)})
        await client.publish(topic, json.dumps(READING), qos=1)
        await eventually(lambda: count(database, "SELECT count(*) FROM readings"), lambda stored: stored == 2)
        assert await readings_of(database, device) == 1


async def test_the_first_batch_of_a_key_that_was_registered_again_is_stored(
    database: Database,
    broker: Broker,
    make_settings: Callable[..., Settings],
    start_ingestor: Callable[..., IngestorProcess],
) -> None:
    """At the start of the batch, the ingestor has cached the key with the deleted device."""
    settings = make_settings()
    async with services.api(settings) as api, aiomqtt.Client(broker.host, broker.port) as client:
        devices = [(await api.post("/devices", json={"name": "n", "key": key})).json()["id"] for key in ("a", "b")]
        await start_ingestor(settings).until_ready()
        for key in ("a", "b"):
            await client.publish(f"devices/{key}/stats", json.dumps(READING), qos=1)
        await eventually(lambda: count(database, "SELECT count(*) FROM readings"), lambda stored: stored == 2)
        await api.delete(f"/devices/{devices[0]}")
        again = (await api.post("/devices", json={"name": "n", "key": "a"})).json()["id"]
        for key in ("a", "b"):
            await client.publish(f"devices/{key}/stats", json.dumps([READING, {**READING, "x": 5}]), qos=1)
        await eventually(lambda: readings_of(database, again), lambda stored: stored == 2)
        await eventually(lambda: readings_of(database, devices[1]), lambda stored: stored == 3)
        assert await readings_of(database, devices[0]) == 1
        assert await count(database, "SELECT count(*) FROM dead_letters") == 0


async def test_a_key_that_was_registered_again_accepts_readings_over_http_immediately(
    make_settings: Callable[..., Settings],
) -> None:
    async with services.api(make_settings()) as api:
        first = (await api.post("/devices", json={"name": "n", "key": "a"})).json()["id"]
        assert (await api.post("/stats", json={**READING, "device_id": first})).status_code == 201
        await api.delete(f"/devices/{first}")
        again = (await api.post("/devices", json={"name": "n", "key": "a"})).json()["id"]
        assert (await api.post("/stats", json={**READING, "device_id": again})).status_code == 201
        assert (await api.post("/stats", json={**READING, "device_id": first})).status_code == 400


async def test_a_writer_detects_that_unseen_marks_were_deleted(database: Database) -> None:
    insert = "INSERT INTO deleted_devices (device_id, key, removed_at) VALUES (%s, 'k', now() - interval '31 days')"
    fence = Fence()
    await fence.begin(database)
    for device in (1, 2, 3):
        await database.execute(insert, (device,))
    assert await fence.enter(database) == {1, 2, 3}
    assert await fence.enter(database) == set()
    assert await deleted_devices.delete_some(database) == 2  # the newest mark stays
    await database.execute(insert, (4,))
    assert await fence.enter(database) == {4}
    for device in (5, 6):
        await database.execute(insert, (device,))
    assert await deleted_devices.delete_some(database) == 3
    with pytest.raises(MarksMissed):
        await fence.enter(database)
    assert await fence.enter(database) == set()
    assert fence.deleted >= {6}


async def test_marks_are_deleted_in_the_order_of_their_numbers(database: Database) -> None:
    for device, removed in enumerate(("2020-1-1", "2020-1-1", None, "2020-1-1"), start=1):
        await database.execute(
            "INSERT INTO deleted_devices (device_id, key, removed_at) VALUES (%s, 'k', %s)", (device, removed)
        )
    assert await deleted_devices.delete_some(database) == 2
    assert await deleted_devices.delete_some(database) == 0


async def test_readings_of_devices_that_may_be_deleted_are_looked_up_again(database: Database) -> None:
    """The writer was suspended until marks had been deleted."""
    await prepare(database)
    await database.execute("INSERT INTO devices (id, key, name) VALUES (1, 'a', 'n'), (2, 'b', 'n')")
    devices = Devices(register=False)
    writer, journal = make_writer(devices)
    await devices.listen(database)
    topics = {"devices/a/stats": "a", "devices/b/stats": "b"}
    assert await devices.resolve(database, topics) == {"devices/a/stats": 1, "devices/b/stats": 2}
    await database.execute("DELETE FROM devices WHERE id = 1")
    await database.execute("INSERT INTO deleted_devices (device_id, key) VALUES (1, 'a'), (9, 'z')")
    await database.execute("DELETE FROM deleted_devices WHERE device_id = 1")
    batch = batch_of({"devices/a/stats": 1, "devices/b/stats": 2})
    with pytest.raises(DevicesDeleted) as raised:
        await writer.store(database, batch, journal.next(b"", held=0))
    assert raised.value.numbers == {1, 2}
    batch.reassign(raised.value.numbers, await devices.resolve(database, topics))
    await writer.store(database, batch, journal.next(b"", held=0))
    assert await readings_of(database, 1) == 0
    assert await readings_of(database, 2) == 1
    assert await count(database, "SELECT count(*) FROM dead_letters WHERE reason = 'unknown_device'") == 1


async def test_waiting_batches_are_looked_up_again_too(database: Database) -> None:
    """Their devices were cached before the transaction of the first batch detected missed marks."""
    await prepare(database)
    await database.execute("INSERT INTO devices (id, key, name) VALUES (1, 'a', 'n')")
    devices = Devices(register=False)
    writer, journal = make_writer(devices)
    await devices.listen(database)
    topics = {"devices/a/stats": "a"}
    await devices.resolve(database, topics)
    waiting = [batch_of({"devices/a/stats": 1}, recorded_at=second) for second in range(3)]
    await database.execute("DELETE FROM devices WHERE id = 1")
    await database.execute("INSERT INTO deleted_devices (device_id, key) VALUES (1, 'a'), (9, 'z')")
    await database.execute("DELETE FROM deleted_devices WHERE device_id = 1")
    await database.execute("INSERT INTO devices (id, key, name) VALUES (2, 'a', 'n')")
    for batch in waiting:
        with pytest.raises(DevicesDeleted) as raised:
            await writer.store(database, batch, journal.next(b"", held=0))
        batch.reassign(raised.value.numbers, await devices.resolve(database, topics))
        await writer.store(database, batch, journal.next(b"", held=0))
        journal.append(journal.next(b"", held=0))
    assert (await readings_of(database, 1), await readings_of(database, 2)) == (0, 3)


def make_writer(devices: Devices) -> tuple[Writer, Journal]:
    journal = Journal("client")
    return writer_of(journal, devices), journal


def batch_of(topics: Mapping[str, int], recorded_at: int = 0) -> Batch:
    """Return a batch with a reading of each device, by its topic."""
    batch = Batch()
    topic_filter = parse_topic_filter("devices/+/stats")
    for topic, device in topics.items():
        batch.add(Message(topic, None, b"", 0, 1), [Measurement(1, 2, 3, recorded_at)], device, topic_filter)
    return batch


class Stream:
    """Publishes messages of several devices in turn, and counts them."""

    def __init__(self, client: aiomqtt.Client, devices: list[int]) -> None:
        self._client = client
        self._devices = devices
        self.published = 0
        self.ended = False

    async def run(self, messages_each: int) -> None:
        for number in range(messages_each):
            for device in self._devices:
                await self._client.publish(f"devices/{device}/stats", json.dumps({**READING, "x": number}), qos=1)
                self.published += 1
        self.ended = True

    async def go_on(self, messages: int) -> None:
        until = self.published + messages

        async def far_enough() -> bool:
            return self.ended or self.published >= until

        await eventually(far_enough, bool)


async def test_no_reading_remains_of_devices_that_are_deleted_during_a_stream(
    database: Database,
    broker: Broker,
    make_settings: Callable[..., Settings],
    start_ingestor: Callable[..., IngestorProcess],
) -> None:
    """Ten devices publish over MQTT and HTTP, and are deleted one after the other: what was taken in is stored and
    then removed, or refused; every message is accounted for."""
    settings = make_settings()
    async with services.api(settings) as api, aiomqtt.Client(broker.host, broker.port) as client:
        devices = [(await api.post("/devices", json={"name": "n"})).json()["id"] for _ in range(10)]
        await start_ingestor(settings).until_ready()
        stream = Stream(client, devices)

        async def post(device: int) -> None:
            while (await api.post("/stats", json={**READING, "device_id": device})).status_code == 201:
                pass

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(stream.run(100))
            for device in devices:
                tasks.create_task(post(device))
            for device in devices:
                await stream.go_on(50)
                assert (await api.delete(f"/devices/{device}")).status_code == 204

        async def counted() -> tuple[float, float]:
            metrics = await ingestion.metrics(settings.ingestor_metrics_port)
            received = metrics["devicestat_ingest_readings_received_total"]
            return received, metrics["devicestat_ingest_readings_in_flight"]

        await eventually(counted, lambda found: found == (stream.published, 0))
        letters = await count(database, "SELECT count(*) FROM dead_letters WHERE reason = 'unknown_device'")
        assert 0 < letters < stream.published
        await removal.remove_all(database)
        assert await count(database, "SELECT count(*) FROM readings") == 0
        assert await count(database, "SELECT count(*) FROM deleted_devices WHERE removed_at IS NOT NULL") == 10


async def test_a_deletion_waits_for_a_batch_in_progress_up_to_a_limit(
    api: httpx.AsyncClient, device: int, database: Database
) -> None:
    async with database.transaction():
        await database.execute("SELECT pass_deletion_fence()")
        answer = await api.delete(f"/devices/{device}")
        assert (answer.status_code, answer.json()["type"]) == (503, "/problems/unavailable")
        assert str(device) in answer.json()["detail"]
        assert answer.headers["retry-after"]
    assert (await api.delete(f"/devices/{device}")).status_code == 204


@pytest.mark.parametrize(("readings", "moments"), [(1, 1), (100, 100), (101, 101), (250, 250), (250, 3), (250, 1)])
async def test_readings_are_removed_in_steps(
    api: httpx.AsyncClient, database: Database, readings: int, moments: int
) -> None:
    first, second = [(await api.post("/devices", json={"name": "n"})).json()["id"] for _ in range(2)]
    await fill(database, first, readings, moments)
    await fill(database, second, 5, 5)
    assert await removal.remove_some(database) is None
    await api.delete(f"/devices/{first}")
    removed = 0
    while (some := await removal.remove_some(database, 100)) is not None:
        assert some <= max(100 + readings // moments, 100)
        removed += some
    assert removed == readings
    assert await readings_of(database, second) == 5


async def test_two_workers_share_the_removal(api: httpx.AsyncClient, database: Database, database_url: str) -> None:
    devices = [(await api.post("/devices", json={"name": "n"})).json()["id"] for _ in range(2)]
    for device in devices:
        await fill(database, device, 10, 10)
        await api.delete(f"/devices/{device}")
    async with await connect(database_url, "other worker") as other, other.transaction():
        assert await removal.remove_some(other) == 10
        assert await removal.remove_some(database) == 10  # does not wait for the other, and takes the other device
        assert await removal.remove_some(database) is None
    assert await count(database, "SELECT count(*) FROM readings") == 0


async def test_the_removal_uses_the_index(database: Database, device: int) -> None:
    await fill(database, device, 50_000, 50_000)
    await fill(database, device + 1, 50_000, 50_000)
    await database.execute("ANALYZE readings")
    parameters = {"device_id": device, "others": 99, "first": None, "last": None}
    cursor = await database.execute("EXPLAIN (ANALYZE) " + removal._REMOVE, parameters)
    scans = [row[0] for row in await cursor.fetchall() if "Scan" in row[0] and "never executed" not in row[0]]
    assert scans
    assert not any("Seq Scan" in scan for scan in scans), scans


async def test_a_device_that_is_being_analysed_can_be_deleted(
    api: httpx.AsyncClient, device: int, database: Database
) -> None:
    """The end of an analysis and the deletion of its device take locks in one order, so that they cannot deadlock."""
    await api.post("/stats", json={**READING, "device_id": device})
    found = await analyse(database, device, None, None)
    for _ in range(20):
        owner = (await api.post("/devices", json={"name": "n"})).json()["id"]
        await api.post(f"/stats/analysis/{owner}/async")
        held = await claim_one(database)
        assert held is not None
        deleted, _ = await asyncio.gather(api.delete(f"/devices/{owner}"), queue.finish(database, held, found))
        assert deleted.status_code == 204, deleted.text


_SCHEDULE = """
    INSERT INTO analysis_schedules (device_id, cron, timezone, align, figures, last_tick)
    VALUES (%s, '* * * * *', 'UTC', false, '{}', now())
"""
_REQUESTS = """
    INSERT INTO analysis_requests (device_id, period, status, finished_at)
    SELECT %s, '[,]', 'done', now() FROM generate_series(1, %s)
"""
_RESULTS = """
    INSERT INTO analysis_results (request_id, device_id, x, y, z)
    SELECT id, device_id, '{}', '{}', '{}' FROM analysis_requests ORDER BY id LIMIT %s
"""
_TICKS = """
    INSERT INTO analysis_ticks
    SELECT 1, now() - number * interval '1 minute', number FROM generate_series(1, %s) AS number
"""


async def fill_a_schedule(database: Database, device: int, requests: int, ticks: int) -> None:
    """Add a schedule by the minute with `count` ticks, requests and results."""
    await database.execute(_SCHEDULE, (device,))
    await database.execute(_REQUESTS, (device, requests))
    await database.execute(_RESULTS, (ticks,))
    await database.execute(_TICKS, (ticks,))


async def test_a_device_with_half_a_million_ticks_is_deleted_immediately_and_removed_in_steps(
    api: httpx.AsyncClient, device: int, database: Database
) -> None:
    await fill_a_schedule(database, device, 525_600, 2_500)
    before = await left_of_devices(database)
    assert (await api.delete(f"/devices/{device}")).status_code == 204
    assert (await api.get("/stats/analysis/requests")).json() == []
    assert await left_of_devices(database) == before
    assert await removal.remove_some(database) == 1_000
    assert await left_of_devices(database) == before - 1_000  # ticks
    steps = [await removal.remove_some(database) for _ in range(6)]
    assert steps == [1_000, 500, 1, 1_000, 1_000, 1_000]
    requests_and_results = 2 * 2_500 + 500
    assert await left_of_devices(database) == before - 2_500 - 1 - requests_and_results


async def test_queued_and_running_requests_are_removed_first(
    api: httpx.AsyncClient, device: int, database: Database
) -> None:
    await fill_a_schedule(database, device, 10, 10)
    await api.post(f"/stats/analysis/{device}/async")
    held = await claim_one(database)
    assert held is not None
    await api.post(f"/stats/analysis/{device}/async")
    await api.delete(f"/devices/{device}")
    assert await queue.was_cancelled(database, held.id)
    assert await removal.remove_some(database) == 2
    assert await count(database, "SELECT count(*) FROM analysis_requests WHERE status <> 'done'") == 0
    while await removal.remove_some(database) is not None:
        pass
    assert await left_of_devices(database) == 0


async def test_a_removal_continues_after_its_worker_was_killed(
    api: httpx.AsyncClient, device: int, database: Database, api_settings: Settings, database_url: str
) -> None:
    await fill_a_schedule(database, device, 5_000, 5_000)
    await fill(database, device, 100, 100)
    await api.delete(f"/devices/{device}")
    async with await connect(database_url, "killed worker") as killed:
        (backend,) = await (await killed.execute("SELECT pg_backend_pid()")).fetchone() or ()
        assert await removal.remove_some(killed) == 1_000
        async with killed.transaction(force_rollback=True):
            assert await removal.remove_some(killed) == 1_000
            assert await removal.remove_some(database) is None  # it is another one's
            await database.execute("SELECT pg_terminate_backend(%s::int)", (backend,))
            with suppress(OperationalError):
                await killed.execute("SELECT")
    async with services.worker(api_settings):
        await eventually(lambda: left_of_devices(database), lambda left: left == 0)
    assert await count(database, "SELECT count(*) FROM deleted_devices WHERE removed_at IS NOT NULL") == 1


async def test_the_ticks_of_a_deleted_schedule_are_removed_in_steps(
    api: httpx.AsyncClient, device: int, database: Database
) -> None:
    await fill_a_schedule(database, device, 10, 10)
    await database.execute(_SCHEDULE, (device,))
    await database.execute("INSERT INTO analysis_ticks VALUES (2, now())")
    assert await orphaned_ticks.delete_some(database) == 0
    assert (await api.delete("/stats/analysis/schedules/1")).status_code == 204
    assert [await orphaned_ticks.delete_some(database, limit=6) for _ in range(3)] == [6, 4, 0]
    assert await count(database, "SELECT count(*) FROM analysis_ticks") == 1
    assert await count(database, "SELECT count(*) FROM analysis_results") == 10
