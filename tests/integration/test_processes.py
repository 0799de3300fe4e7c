"""`devicestat ingest --processes N`: several ingestors store each reading once, also when N changes."""

import socket
import time
from collections.abc import Callable

import psutil
import pytest

from ingestor.service import STOP_TIMEOUT_S
from ingestor.session.processes import departed, member, other_form
from shared.postgres.connections import connect
from shared.settings import Settings
from tests.command import run
from tests.conftest import Broker, Database
from tests.faults.stream import (
    IN_FLIGHT,
    add_devices,
    expect_counts_to_add_up,
    expect_each_once,
    publishing,
    reading,
)
from tests.ingestion import IngestorProcess, health, metrics
from tests.ports import free_port
from tests.publisher import Message, publish
from tests.services import client_of, database_away
from tests.waiting import eventually

MESSAGES = 3_000
_STORED = 'devicestat_ingest_readings_stored_total{{process="{}"}}'.format

Start = Callable[..., IngestorProcess]
Make = Callable[..., Settings]


async def started(process: IngestorProcess) -> IngestorProcess:
    await process.until_ready()
    return process


async def ends_well(process: IngestorProcess) -> None:
    code, logged = await process.end()
    assert code == 0, logged
    assert "Traceback" not in logged


async def test_they_share_the_work_and_their_counts_add_up(
    make_settings: Make, broker: Broker, database: Database, start_ingestor: Start
) -> None:
    await add_devices(database)
    settings = make_settings()
    process = await started(start_ingestor(settings, "--processes", 2))
    async with publishing(broker, at_least=MESSAGES) as stream:
        pass
    await expect_each_once(database, stream)

    async def settled() -> float:
        return (await figures())["in_flight"]

    async def figures() -> dict[str, float]:
        seen = await expect_counts_to_add_up(settings.ingestor_metrics_port)
        in_flight = sum(
            value for name, value in seen.items() if name.startswith("devicestat_ingest_readings_in_flight")
        )
        return {**seen, "in_flight": in_flight}

    await eventually(settled, lambda in_flight: in_flight == 0)
    seen = await figures()
    shares = [seen[_STORED(number)] for number in (1, 2)]
    assert sum(shares) == stream.count + stream.marked
    assert min(shares) > stream.count / 10
    await ends_well(process)


async def test_one_that_is_killed_is_started_again(
    make_settings: Make, broker: Broker, database: Database, start_ingestor: Start
) -> None:
    await add_devices(database)
    process = await started(start_ingestor(make_settings(), "--processes", 2))
    async with publishing(broker) as stream:
        for victim in children(process):
            await stream.grows(MESSAGES)
            victim.kill()
            await until_not_ready_and_ready_again(process)
            await stream.grows(MESSAGES)
    await expect_each_once(database, stream)
    assert process.process.poll() is None
    await ends_well(process)


def children(process: IngestorProcess) -> list[psutil.Process]:
    found = psutil.Process(process.process.pid).children()
    assert len(found) == 2
    return found


async def test_they_end_with_the_command_that_is_killed(
    make_settings: Make, broker: Broker, database: Database, start_ingestor: Start
) -> None:
    await add_devices(database)
    settings = make_settings()
    process = await started(start_ingestor(settings, "--processes", 2))
    async with publishing(broker) as stream:
        members = children(process)
        await stream.grows(MESSAGES)
        process.kill()
        await eventually(lambda: still_running(members), lambda running: not running)
        process = await started(start_ingestor(settings, "--processes", 2))
        await stream.grows(MESSAGES)
    await expect_each_once(database, stream)
    await ends_well(process)


async def still_running(processes: list[psutil.Process]) -> list[int]:
    return [one.pid for one in processes if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]


async def until_not_ready_and_ready_again(process: IngestorProcess) -> None:
    def said(times: int) -> bool:
        return process.logged.count("was ended by SIGKILL") == process.logged.count("is ready again") >= times

    before = process.logged.count("is ready again")

    async def again() -> bool:
        return said(before + 1)

    await eventually(again, bool)


async def test_one_that_is_killed_while_the_database_is_away_comes_back_with_it(
    make_settings: Make, broker: Broker, database_url: str, postgres_server: str, start_ingestor: Start
) -> None:
    await prepared(database_url)
    process = await started(start_ingestor(make_settings(), "--processes", 2))
    async with publishing(broker) as stream:
        async with database_away(postgres_server, database_url):
            children(process)[1].kill()
            await says(process, "ended with exit code 1 before it was ready: restarting in")
            assert (await health(process.port))["parts"]["process 2"] == "does not respond"
        await says(process, "is ready again")
        await process.until_ready()
    async with await connect(database_url, "test") as database:
        await expect_each_once(database, stream)
    await ends_well(process)


async def prepared(database_url: str) -> None:
    """Add devices for the stream, with a connection that an outage of the database does not end."""
    async with await connect(database_url, "test") as database:
        await add_devices(database)


async def says(process: IngestorProcess, line: str) -> None:
    async def said() -> bool:
        assert process.process.poll() is None, process.logged
        return line in process.logged

    await eventually(said, bool)


@pytest.mark.soak
async def test_they_stop_at_once_while_the_database_is_away(
    make_settings: Make, broker: Broker, database_url: str, postgres_server: str, start_ingestor: Start
) -> None:
    """Each waits for it equally long."""
    await prepared(database_url)
    process = await started(start_ingestor(make_settings(), "--processes", 2))
    async with database_away(postgres_server, database_url):
        await publish(broker.host, broker.port, *(Message(reading(number)) for number in range(MESSAGES)))
        await eventually(lambda: in_flight(process), lambda each: len(each) == 2 and all(each))
        signalled = time.monotonic()
        code, logged = await process.end()
    assert time.monotonic() - signalled < 2 * STOP_TIMEOUT_S
    assert code == 0, logged
    assert logged.count("stopped before all messages were stored") == 2


async def in_flight(process: IngestorProcess) -> list[float]:
    return [value for name, value in (await metrics(process.port)).items() if name.startswith(IN_FLIGHT)]


async def test_the_port_of_one_that_is_down_is_kept_for_it(make_settings: Make, start_ingestor: Start) -> None:
    process = await started(start_ingestor(make_settings(), "--processes", 2))
    victim = children(process)[1]
    (port,) = {seen.laddr.port for seen in victim.net_connections() if seen.status == psutil.CONN_LISTEN}
    victim.kill()
    victim.wait()
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with pytest.raises(OSError, match="in use"):
            other.bind(("127.0.0.1", port))
    await says(process, "is ready again")
    assert (await health(port))["status"] == "ready"
    await ends_well(process)


async def test_one_that_is_stuck_does_not_answer(make_settings: Make, start_ingestor: Start) -> None:
    process = await started(start_ingestor(make_settings(), "--processes", 2))
    stuck = children(process)[1]
    stuck.suspend()
    report = await health(process.port)
    stuck.resume()
    assert report["status"] == "not ready"
    assert report["parts"]["process 2"] == "does not respond"
    await process.until_ready()
    await ends_well(process)


_STORE_NOTHING = "LOCK TABLE ingest_journal IN SHARE MODE"


async def test_while_those_that_are_gone_are_drained_it_lives_and_is_not_ready(
    make_settings: Make, database: Database, start_ingestor: Start
) -> None:
    settings = make_settings()
    await ends_well(await started(start_ingestor(settings, "--processes", 3)))
    async with database.transaction():
        await database.execute(_STORE_NOTHING)
        process = start_ingestor(settings, "--processes", 2)
        await says(process, "draining the session of a removed process")
        async with client_of(process.port) as client:
            live, ready = [await client.get(f"/health/{what}") for what in ("live", "ready")]
        assert live.status_code == 200
        assert ready.status_code == 503
        assert ready.json()["parts"] == {"processes": "sessions of departed processes are being drained"}
        assert await metrics(process.port) == {}
        assert psutil.Process(process.process.pid).children() == []
    await ends_well(await started(process))


@pytest.mark.parametrize("counts", [(1, 2), (2, 1), (3, 2)], ids=["1-to-2", "2-to-1", "3-to-2"])
async def test_another_number_of_them_loses_nothing_and_doubles_nothing(
    counts: tuple[int, int], make_settings: Make, broker: Broker, database: Database, start_ingestor: Start
) -> None:
    """Messages that are published while no ingestor runs wait in the sessions of the earlier processes."""
    await add_devices(database)
    settings, (before, after) = make_settings(), counts
    await ends_well(await started(start_ingestor(settings, "--processes", before)))
    async with publishing(broker, at_least=MESSAGES) as stream:
        pass
    process = await started(start_ingestor(settings, "--processes", after))
    await expect_each_once(database, stream)
    await stream.start()
    await stream.grows(MESSAGES)
    await stream.halt()
    await expect_each_once(database, stream)
    assert await departed(database, settings, after) == []
    await ends_well(process)


async def test_a_second_command_ends_the_first_with_a_clear_line(make_settings: Make, start_ingestor: Start) -> None:
    first = await started(start_ingestor(make_settings(), "--processes", 2))
    second = start_ingestor(make_settings(ingestor_metrics_port=free_port()), "--processes", 2)
    code, logged = await first.ended()
    assert code == 1
    assert "another client has connected with the client id" in logged
    assert "Traceback" not in logged
    await second.until_ready()
    await ends_well(second)


async def test_one_of_them_can_be_run_by_itself(
    make_settings: Make, broker: Broker, database: Database, start_ingestor: Start
) -> None:
    await add_devices(database)
    for_each = [make_settings(), make_settings(ingestor_metrics_port=free_port())]
    both = await by_themselves(for_each, start_ingestor)
    async with publishing(broker, at_least=MESSAGES) as stream:
        pass
    await expect_each_once(database, stream)
    for process in both:
        await ends_well(process)


async def by_themselves(for_each: list[Settings], start_ingestor: Start) -> list[IngestorProcess]:
    return [
        await started(start_ingestor(settings, "--processes", len(for_each), "--process", number))
        for number, settings in enumerate(for_each, 1)
    ]


async def test_the_first_by_itself_takes_what_waits_for_those_that_are_gone(
    make_settings: Make, broker: Broker, database: Database, start_ingestor: Start
) -> None:
    await add_devices(database)
    for_each = [make_settings(), *(make_settings(ingestor_metrics_port=free_port()) for _ in range(2))]
    for process in await by_themselves(for_each, start_ingestor):
        await ends_well(process)
    async with publishing(broker, at_least=MESSAGES) as stream:
        pass
    two = await by_themselves(for_each[:2], start_ingestor)
    await expect_each_once(database, stream)
    assert await departed(database, for_each[0], 2) == []
    for process in two:
        await ends_well(process)


def test_the_third_of_two_is_refused() -> None:
    result = run(
        "ingest", "--processes", 2, "--process", 3, database_url="postgresql:///x", mqtt_url="mqtt://127.0.0.1"
    )
    assert result.returncode == 2
    assert "--process" in result.stderr
    assert "from 1 to 2" in result.stderr


def test_the_first_goes_on_with_the_session_of_the_one_that_worked_alone() -> None:
    alone = Settings(mqtt_client_id="plant/7")
    first, second = (member(alone, number, 2) for number in (1, 2))
    assert member(alone, 1, 1) == alone
    assert first.mqtt_client_id == "plant/7"
    assert second.mqtt_client_id == "plant/7.process-2"
    assert (
        first.mqtt_topic.pattern == second.mqtt_topic.pattern == "$share/plant%2F7/devices/+/stats" == other_form(alone)
    )
    assert other_form(first) == alone.mqtt_topic.pattern
    shared = Settings(mqtt_topic="$share/plant/devices/+/stats")
    assert member(shared, 2, 2).mqtt_topic == shared.mqtt_topic
