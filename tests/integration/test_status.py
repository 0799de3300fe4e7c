"""GET /status: the state of all processes, of the queue and of the database, and what is wrong."""

import asyncio
from collections.abc import Callable
from typing import Any

import httpx
import msgspec

from query_api.web.operating.status.examining import examine
from query_api.web.operating.status.picture import Picture
from query_api.web.operating.status.reading import read
from shared.postgres.connections import connect, open_pool
from shared.readings.model import Reason
from shared.settings import Settings
from shared.status.table import GONE_S
from tests import services
from tests.command import arun
from tests.conftest import Broker, Database
from tests.credentials import bearer, keys
from tests.ingestion import IngestorProcess, running_ingestor
from tests.letters import keep, letter
from tests.publisher import Message, publish
from tests.roles import url_as
from tests.services import database_away
from tests.waiting import eventually

Make = Callable[..., Settings]
READING = Message(b'{"x":1,"y":2,"z":3}')


async def status(api: httpx.AsyncClient) -> dict[str, Any]:
    answer = await api.get("/status")
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def named(found: dict[str, Any], subject: str) -> list[str]:
    return [finding["text"] for finding in found["findings"] if finding["subject"] == subject]


async def test_a_whole_installation(make_settings: Make, broker: Broker, database: Database) -> None:
    await database.execute("INSERT INTO devices (key, name) VALUES ('1', '1')")
    settings = make_settings()
    async with running_ingestor(settings), services.worker(settings), services.api(settings) as api:
        await publish(broker.host, broker.port, READING)

        async def whole() -> dict[str, Any]:
            return await status(api)

        def is_well(one: dict[str, Any]) -> bool:
            states = [process["state"] for process in one["processes"]]
            wrong = [finding for finding in one["findings"] if finding["severity"] != "ok"]
            is_safe = {finding["subject"] for finding in wrong} <= {"durability"}  # a setting of the tests' server
            return states == ["running"] * 3 and is_safe and one["ingestion"]["stored_per_s"] > 0 and one["examined_at"]

        found = await eventually(whole, is_well)
        assert [process["kind"] for process in found["processes"]] == ["api", "ingestor", "worker"]
        for process in found["processes"]:
            kinds = {kind for kind in ("api", "ingestor", "worker") if process[kind] is not None}
            assert kinds == {process["kind"]}
            assert process["host"]
            assert process["pid"]
            assert process["started_at"] <= process["updated_at"] <= found["read_at"]
            assert all(part["since"] <= process["updated_at"] for part in process["parts"])
        assert found["queue"] == {"queued": 0, "running": 0, "oldest_s": None}
        assert found["dead_letters"] == []
        assert 3 < found["database"]["connections"] < found["database"]["max_connections"]
        assert found["database"]["size_bytes"] > 1_000_000
        assert found["database"]["months"] >= 2
        assert found["blocks"]["devices"] == 1


async def test_what_is_wrong_comes_first(make_settings: Make, database: Database) -> None:
    """Without an ingestor and a worker, while a request waits."""
    await database.execute("INSERT INTO devices (id, key, name) VALUES (7, '7', 'n')")
    await database.execute("INSERT INTO analysis_requests (device_id, period) VALUES (7, '[,]')")
    async with services.api(make_settings()) as api:
        found = await status(api)
    assert found["severity"] == "wrong"
    ranks = ["wrong", "warning", "ok"]
    shown = [ranks.index(finding["severity"]) for finding in found["findings"]]
    assert shown == sorted(shown)
    assert named(found, "queue")[0].endswith("and no worker runs: start `devicestat work`")
    assert "start `devicestat ingest`" in named(found, "ingestor")[0]
    assert found["queue"]["queued"] == 1
    assert found["queue"]["oldest_s"] >= 0


async def test_a_killed_ingestor_is_gone(
    make_settings: Make, start_ingestor: Callable[..., IngestorProcess], database: Database
) -> None:
    settings = make_settings()
    killed = start_ingestor(settings)
    await killed.until_ready()
    killed.kill()
    await database.execute("UPDATE process_status SET updated_at = updated_at - make_interval(secs => %s)", (GONE_S,))
    async with services.api(settings) as api:
        found = await status(api)
    assert [(one["kind"], one["state"]) for one in found["processes"] if one["kind"] == "ingestor"] == [
        ("ingestor", "gone")
    ]
    assert found["ingestion"]["readings_per_s"] == 0
    (text,) = named(found, "ingestor")
    assert f"the ingestor {settings.mqtt_client_id} on " in text


async def test_it_finds_what_the_doctor_finds(make_settings: Make, database: Database) -> None:
    row = await (await database.execute("SELECT to_char(now() + interval '1 month', 'YYYY_MM')")).fetchone()
    assert row is not None
    await database.execute(f"DROP TABLE readings_{row[0]}".encode())
    settings = make_settings(ingestor_metrics_port=0)
    result = await arun("doctor", database_url=settings.database_url, mqtt_url=settings.mqtt_url)
    async with services.api(settings) as api:

        async def partitions() -> list[str]:
            return named(await status(api), "partitions")

        (text,) = await eventually(partitions, bool)
    assert f"none for {row[0].replace('_', '-')}: run `devicestat migrate`" in text
    assert text in result.stdout


async def test_refused_readings_by_reason(make_settings: Make, database_url: str, database: Database) -> None:
    sent = [letter("devices/1/stats", b"", Reason.UNKNOWN_DEVICE) for _ in range(3)]
    await keep(database_url, sent)
    await database.execute(
        "UPDATE dead_letters SET received_at = CASE id WHEN (SELECT min(id) FROM dead_letters)"
        " THEN now() - interval '5 hours' ELSE now() END"
    )
    async with services.api(make_settings()) as api:

        async def examined() -> dict[str, Any]:
            return await status(api)

        found = await eventually(examined, lambda one: one["examined_at"] is not None)
    assert found["dead_letters"] == [{"reason": "unknown_device", "last_hour": 2, "last_day": 3}]
    (text,) = named(found, "dead letters")
    assert text.startswith("unknown_device: 3 readings in the last 24 hours: `devicestat dead-letters list")


async def test_only_an_admin_sees_hosts(api_settings: Settings, database: Database) -> None:
    made = await keys(database)
    settings = msgspec.structs.replace(api_settings, auth="on")
    async with services.api(settings) as api:

        async def seen(key: str) -> dict[str, Any]:
            answer = await api.get("/status", headers=bearer(key))
            assert answer.status_code == 200
            found: dict[str, Any] = answer.json()
            return found

        async def by_admin() -> dict[str, Any]:
            return await seen(made.admin)

        admin = await eventually(by_admin, lambda found: bool(found["processes"]))
        analyst = await seen(made.analyst)
    host = admin["processes"][0]["host"]
    assert host
    assert (analyst["processes"][0]["host"], analyst["processes"][0]["pid"]) == (None, None)
    assert all(f"on {host} " not in finding["text"] for finding in analyst["findings"])
    assert admin["processes"][0]["name"].startswith("http://")
    assert analyst["processes"][0]["name"] == ""


async def test_without_the_database_it_is_unavailable(
    api_settings: Settings, postgres_server: str, database_url: str
) -> None:
    async with services.api(api_settings) as api:
        await status(api)
        async with database_away(postgres_server, database_url):

            async def answered() -> int:
                return (await api.get("/status")).status_code

            await eventually(answered, lambda code: code == 503)
            answer = await api.get("/status")
            assert answer.headers["content-type"] == "application/problem+json"

        async def again() -> int:
            return (await api.get("/status")).status_code

        await eventually(again, lambda code: code == 200)


async def test_many_requests_read_the_database_once(database_url: str) -> None:
    """Requests of all clients share what was read."""
    async with open_pool(url_as(database_url, "api"), "test", max_size=1) as pool:
        picture = Picture(pool, fresh_s=3600)
        first = await asyncio.gather(*(picture.reading() for _ in range(50)))
        assert len({id(one) for one in first}) == 1
        assert await picture.reading() is first[0]


async def test_the_api_examines_only_while_somebody_asks(database_url: str) -> None:
    async with open_pool(url_as(database_url, "api"), "test", max_size=2) as pool:
        picture = Picture(pool, examine_s=0.001)

        async def examined() -> object:
            return picture.examination.size

        task = asyncio.create_task(picture.examine())
        first = await eventually(examined, bool)
        await asyncio.sleep(0.5)
        assert await examined() is first
        await picture.reading()
        await eventually(examined, lambda size: size is not first)
        task.cancel()
        await asyncio.wait({task})


async def test_a_check_that_is_not_allowed_says_so(database_url: str, database: Database) -> None:
    await database.execute("REVOKE SELECT ON late_readings FROM devicestat_api")
    async with await connect(url_as(database_url, "api"), "test") as connection:
        found = await examine(connection)
    assert found.late is None
    assert found.size is not None
    (finding,) = [finding for finding in found.findings if finding.what == "late readings"]
    assert finding.text.startswith("not checked: ")


async def test_the_cheap_part_reads_few_rows(database: Database, database_url: str) -> None:
    """Also with many analyses that have ended."""
    await database.execute("INSERT INTO devices (id, key, name) VALUES (7, '7', 'n')")
    await database.execute(
        "INSERT INTO analysis_requests (device_id, period, status, finished_at)"
        " SELECT 7, '[,]', 'done', now() FROM generate_series(1, 20000)"
    )
    await database.execute("ANALYZE analysis_requests")
    cursor = await database.execute(
        "EXPLAIN SELECT count(*) FROM analysis_requests WHERE status IN ('queued', 'running')"
    )
    plan = "\n".join(row[0] for row in await cursor.fetchall())
    assert "analysis_requests_by_status" in plan, plan
    async with await connect(url_as(database_url, "api"), "test") as connection:
        assert (await read(connection)).queue.queued == 0
