"""Each process writes a row of its state, and a row of a process that is gone is seen and expires."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from functools import partial

import pytest

from deploy.local.mosquitto import EmbeddedMosquitto
from shared.postgres.connections import Connection, connect
from shared.serving.telemetry import Health
from shared.settings import Settings
from shared.status import table
from shared.status.figures import Document
from shared.status.process import Identity, Kind, State
from shared.status.reporting import report, reported
from shared.status.table import Process
from tests import services
from tests.command import arun
from tests.conftest import Broker, Database
from tests.ingestion import IngestorProcess, running_ingestor
from tests.publisher import Message, publish
from tests.roles import url_as
from tests.services import database_away
from tests.waiting import eventually

Make = Callable[..., Settings]
READING = Message(b'{"x":1,"y":2,"z":3}')
AGE = "UPDATE process_status SET updated_at = updated_at - make_interval(secs => %s)"


async def processes(database: Database) -> dict[Kind, Process]:
    return {process.kind: process for process in await table.select(database)}


async def test_every_kind_of_process_reports_and_removes_its_row(make_settings: Make, database: Database) -> None:
    settings = make_settings()
    async with running_ingestor(settings), services.api(settings), services.worker(settings):

        async def ready() -> bool:
            found = await processes(database)
            documents = [process.document for process in found.values() if process.state is State.RUNNING]
            return len(documents) == 3 and all(
                document and all(part.fault is None for part in document.parts) for document in documents
            )

        await eventually(ready, bool)
        found = await processes(database)
        assert found[Kind.INGESTOR].name == settings.mqtt_client_id
        assert found[Kind.API].name == f"http://127.0.0.1:{settings.http_port}"
        parts = {kind: [p.name for p in found[kind].document.parts] for kind in Kind}  # type: ignore[union-attr]
        assert parts[Kind.INGESTOR] == ["broker", "database"]
        assert "rounds" in parts[Kind.WORKER]
        worker = found[Kind.WORKER].document
        assert worker is not None
        assert worker.worker is not None
        assert {"seal", "settle", "scrub", "tick"} <= {one.name for one in worker.worker.rounds}
    assert await processes(database) == {}


async def test_the_figures_of_an_ingestor_are_those_of_its_metrics(
    make_settings: Make, broker: Broker, database: Database
) -> None:
    await database.execute("INSERT INTO devices (key, name) VALUES ('1', '1')")
    malformed = Message(b"{")
    async with running_ingestor(make_settings()):
        await publish(broker.host, broker.port, READING, READING, malformed)

        async def figures() -> object:
            process = (await processes(database)).get(Kind.INGESTOR)
            return process and process.document and process.document.ingestor

        found = await eventually(figures, lambda one: getattr(one, "refused", None) == {"malformed": 1})
        assert found.readings_per_s > found.stored_per_s > 0  # type: ignore[attr-defined]
        assert found.messages_per_s > 0  # type: ignore[attr-defined]
        assert (found.in_flight, found.lag_s, found.is_paused) == (0, 0.0, False)  # type: ignore[attr-defined]
        assert found.delay_p99_s >= found.delay_p50_s > 0  # type: ignore[attr-defined]
        assert found.journal_packets == 3  # type: ignore[attr-defined]


async def test_a_killed_ingestor_is_seen_as_gone_and_then_as_replaced(
    make_settings: Make, start_ingestor: Callable[..., IngestorProcess], database: Database
) -> None:
    settings = make_settings()
    killed = start_ingestor(settings)
    await killed.until_ready()
    killed.kill()
    assert (await processes(database))[Kind.INGESTOR].pid == killed.process.pid
    await database.execute(AGE, (table.GONE_S,))
    assert (await processes(database))[Kind.INGESTOR].state is State.GONE
    result = await arun("doctor", database_url=settings.database_url, mqtt_url=settings.mqtt_url)
    assert result.returncode == 1
    assert f"the ingestor {settings.mqtt_client_id} on " in result.stdout
    assert f"(pid {killed.process.pid}) reported last " in result.stdout
    again = start_ingestor(settings)
    await again.until_ready()

    async def states() -> list[State]:
        return sorted(process.state for process in await table.select(database))

    await eventually(states, lambda found: found == [State.REPLACED, State.RUNNING])
    code, log = await again.end()
    assert code == 0, log
    await eventually(states, lambda found: found == [State.GONE])


async def test_the_doctor_names_requests_that_wait_without_a_worker(make_settings: Make, database: Database) -> None:
    await database.execute("INSERT INTO devices (id, key, name) VALUES (7, '7', 'n')")
    await database.execute("INSERT INTO analysis_requests (device_id, period) VALUES (7, '[,]')")
    settings = make_settings(ingestor_metrics_port=0)
    given = {"database_url": settings.database_url, "mqtt_url": settings.mqtt_url}
    result = await arun("doctor", **given, ingestor_metrics_port=0)
    assert result.returncode == 1
    assert "1 request in the queue of analyses, the oldest waiting for " in result.stdout
    assert "and no worker runs: start `devicestat work`" in result.stdout


async def test_a_broker_that_is_away_is_reported_at_once(
    make_settings: Make, own_broker: EmbeddedMosquitto, database: Database
) -> None:
    settings = make_settings(mqtt_url=own_broker.url)

    async def fault() -> str | None:
        process = (await processes(database)).get(Kind.INGESTOR)
        parts = process.document.parts if process and process.document else ()
        return next((part.fault for part in parts if part.name == "broker"), "no report")

    async with running_ingestor(settings):
        await eventually(fault, lambda found: found is None)
        await asyncio.to_thread(own_broker.stop)
        found = await eventually(fault, bool)
        assert "no connection to the MQTT broker" in str(found) or "closed" in str(found)
        await asyncio.to_thread(own_broker.start)
        await eventually(fault, lambda found: found is None)


async def test_reports_go_on_after_the_database_was_away(
    make_settings: Make, postgres_server: str, database_url: str
) -> None:
    """The row is there again, and no process has ended."""
    settings = make_settings()

    async def updated(kind: Kind) -> datetime | None:
        async with await connect(database_url, "test") as connection:
            found = await processes(connection)
        return found[kind].updated_at if kind in found else None

    async with running_ingestor(settings), services.worker(settings):
        kinds = (Kind.INGESTOR, Kind.WORKER)
        for kind in kinds:
            await eventually(partial(updated, kind), bool)
        async with database_away(postgres_server, database_url):
            await asyncio.sleep(0)
        async with await connect(database_url, "test") as connection:
            ((back,),) = await (await connection.execute("SELECT clock_timestamp()")).fetchall()
        for kind in kinds:
            found = await eventually(partial(updated, kind), partial(_is_later, back))
            assert _is_later(back, found)


def _is_later(back: datetime, found: datetime | None) -> bool:
    return found is not None and found > back


def own(name: str = "a", kind: Kind = Kind.INGESTOR) -> Identity:
    return Identity.own(kind, name)


@pytest.mark.parametrize("service", ["ingestor", "api", "worker"])
async def test_each_role_reports_and_expires_rows(service: str, database_url: str, database: Database) -> None:
    """Rows older than fifteen minutes, and those dated more than a minute ahead of the clock."""
    async with await connect(url_as(database_url, service), "test") as connection:
        for shift in (-14 * 60, -16 * 60, 30, 3600):
            one = own(str(shift))
            await report(connection, one, Document())
            await database.execute(f"{AGE} WHERE id = %s", (-shift, one.id))
        await report(connection, own("now"), Document())
        assert sorted(process.name for process in await table.select(connection)) == ["-840", "30", "now"]


async def test_a_clock_that_was_set_back_hides_no_running_process(database: Database) -> None:
    """The row of before is dated in the future. A process that runs dates it again; one that is gone is removed."""
    runs, is_gone = own("runs"), own("is gone")
    for one in (runs, is_gone):
        await report(database, one, Document())
    await database.execute(AGE, (-3600,))
    assert {process.state for process in await table.select(database)} == {State.LATE}
    await report(database, runs, Document())
    (process,) = await table.select(database)
    assert (process.name, process.state) == ("runs", State.RUNNING)


async def test_a_locked_row_delays_a_report_by_half_a_second_only(database_url: str, database: Database) -> None:
    """An ingestor reports between two batches."""
    one = own()
    await report(database, one, Document())
    health = Health()
    failures = 0

    async def use(action: Callable[[Connection], Awaitable[None]]) -> None:
        nonlocal failures
        try:
            await action(database)
        except Exception:
            failures += 1
            raise

    async def failed() -> int:
        return failures

    async with await connect(database_url, "test") as other:
        async with other.transaction():
            await other.execute("SELECT FROM process_status FOR UPDATE")
            async with reported(one, use, health, Document, every_s=0.01):
                await eventually(failed, lambda found: found > 1)
        assert (await (await database.execute("SELECT 1")).fetchone()) == (1,)


async def test_a_process_that_ends_with_an_error_leaves_its_row(database: Database) -> None:
    one = own()

    async def use(action: Callable[[Connection], Awaitable[None]]) -> None:
        await action(database)

    async def count() -> int:
        return len(await table.select(database))

    async def fail() -> None:
        async with reported(one, use, Health(), Document):
            await eventually(count, lambda found: found == 1)
            raise LookupError

    with pytest.raises(LookupError):
        await fail()
    assert await count() == 1


async def test_a_document_that_cannot_be_made_ends_no_process(database: Database) -> None:
    calls = 0

    def broken() -> Document:
        nonlocal calls
        calls += 1
        raise LookupError("a fault of the figures")

    async def called() -> int:
        return calls

    async def use(action: Callable[[Connection], Awaitable[None]]) -> None:
        await action(database)

    async with reported(own(), use, Health(), broken, every_s=0.01):
        await eventually(called, lambda found: found > 2)
    assert await table.select(database) == []


async def test_a_report_writes_no_wal_and_needs_no_index_but_the_key(database: Database) -> None:
    row = await (
        await database.execute(
            "SELECT relpersistence::text, (SELECT count(*) FROM pg_index WHERE indrelid = pg_class.oid)"
            " FROM pg_class WHERE relname = 'process_status'"
        )
    ).fetchone()
    assert row == ("u", 1)


async def test_the_time_of_the_start_is_by_the_databases_clock(database: Database) -> None:
    began = own()
    identity = Identity(began.kind, began.name, began.id, began.host, began.pid, began.version, began.began - 3600)
    await report(database, identity, Document())
    (process,) = await table.select(database)
    assert timedelta(seconds=3599) < process.updated_at - process.started_at < timedelta(seconds=3660)


async def test_a_document_that_cannot_be_read_hides_no_process(database: Database) -> None:
    """It may be of another version."""
    await report(database, own(), Document())
    await database.execute("""UPDATE process_status SET document = '{"ingestor": {"lag_s": "long"}}'""")
    (process,) = await table.select(database)
    assert (process.state, process.document) == (State.RUNNING, None)
