"""`devicestat simulate` against a real API, broker and ingestor."""

import asyncio
import re
import signal
import tempfile
from collections.abc import Callable
from pathlib import Path

import aiomqtt
import psycopg
import pytest

from deploy.local.mosquitto import EmbeddedMosquitto
from shared.settings import Settings
from tests import services
from tests.closed_broker import ClosedBroker
from tests.command import argv, arun, environment
from tests.ingestion import running_ingestor
from tests.ports import free_port
from tests.waiting import HANG_S, eventually

Database = psycopg.AsyncConnection[tuple[object, ...]]
_COUNTS = "SELECT key, count(readings.id) FROM devices LEFT JOIN readings ON device_id = devices.id GROUP BY key"


@pytest.fixture
def settings(make_settings: Callable[..., Settings], own_broker: EmbeddedMosquitto) -> Settings:
    return make_settings(mqtt_url=own_broker.url)


async def stored(database: Database) -> dict[object, object]:
    return dict(await (await database.execute(_COUNTS)).fetchall())  # type: ignore[arg-type]


async def test_it_registers_publishes_and_says_what_it_sent(settings: Settings, database: Database) -> None:
    options = ("--devices", 3, "--rate", 200, "--count", 600, "--history", 0.5)
    where = {"mqtt_url": settings.mqtt_url, "http_port": settings.http_port}
    async with services.api(settings), running_ingestor(settings):
        result = await arun("simulate", *options, **where)
        assert (result.returncode, result.stderr) == (0, "")
        assert "3 devices: sim-1 to sim-3" in result.stdout
        assert "sent 600 readings of 3 devices in 63 messages" in result.stdout
        assert "the broker acknowledged 600 of them" in result.stdout
        counts = await eventually(lambda: stored(database), lambda counts: sum(counts.values()) >= 600)  # type: ignore[arg-type]
        assert counts == {"sim-1": 200, "sim-2": 200, "sim-3": 200}


async def test_devices_that_exist_are_used_again(settings: Settings, database: Database) -> None:
    async with services.api(settings) as api:
        await api.post("/devices", json={"name": "an older one", "key": "sim-2"})
        for _ in range(2):
            command = ("simulate", "--devices", 3, "--count", 0)
            result = await arun(*command, mqtt_url=settings.mqtt_url, http_port=settings.http_port)
            assert (result.returncode, result.stderr) == (0, "")
            assert "sent 0 readings of 3 devices in 0 messages" in result.stdout
    names = await (await database.execute("SELECT name FROM devices ORDER BY key")).fetchall()
    assert names == [("Simulated device 1",), ("an older one",), ("Simulated device 3",)]


async def test_a_broker_that_restarts_costs_no_reading(
    settings: Settings, database: Database, own_broker: EmbeddedMosquitto
) -> None:
    where = environment(mqtt_url=settings.mqtt_url, http_port=settings.http_port)
    command = argv("simulate", "--devices", 2, "--rate", 200, "--count", 400)
    async with services.api(settings), running_ingestor(settings):
        process = await asyncio.create_subprocess_exec(*command, env=where, stdout=asyncio.subprocess.PIPE)
        await eventually(lambda: stored(database), lambda counts: sum(counts.values()) >= 100)  # type: ignore[arg-type]
        await asyncio.to_thread(own_broker.stop)
        await asyncio.to_thread(own_broker.start)
        said = (await process.communicate())[0].decode()
        assert process.returncode == 0
        assert "the connection to the broker" in said
        assert "the broker acknowledged 400 of them" in said
        await eventually(lambda: stored(database), lambda counts: counts == {"sim-1": 200, "sim-2": 200})


async def test_a_signal_ends_it_with_a_summary(settings: Settings, database: Database) -> None:
    where = environment(mqtt_url=settings.mqtt_url, http_port=settings.http_port)
    command = argv("simulate", "--rate", 50)
    async with services.api(settings), running_ingestor(settings):
        process = await asyncio.create_subprocess_exec(*command, env=where, stdout=asyncio.subprocess.PIPE)
        await eventually(lambda: stored(database), lambda counts: sum(counts.values()) >= 10)  # type: ignore[arg-type]
        process.send_signal(signal.SIGINT)
        said = (await process.communicate())[0].decode()
        assert process.returncode == 0
        sent = int(said.rsplit("the broker acknowledged ", 1)[1].split()[0])
        await eventually(lambda: stored(database), lambda counts: sum(counts.values()) == sent)  # type: ignore[arg-type]


async def test_without_an_api_it_says_so() -> None:
    result = await arun("simulate", mqtt_url="mqtt://127.0.0.1", http_port=free_port())
    assert result.returncode == 1
    assert "is `devicestat serve` running there?" in result.stderr
    assert len(result.stderr.splitlines()) == 1


async def test_without_a_broker_it_says_so(settings: Settings) -> None:
    port = free_port()
    async with services.api(settings):
        result = await arun("simulate", mqtt_url=f"mqtt://127.0.0.1:{port}", http_port=settings.http_port)
    assert result.returncode == 1
    assert f"no connection to the broker at 127.0.0.1:{port}" in result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    "options", [("--rate", "nan"), ("--rate", "inf"), ("--rate", 0), ("--history", "inf"), ("--history", "nan")]
)
async def test_a_number_that_is_none_is_refused(options: tuple[str, object]) -> None:
    result = await arun("simulate", *options, mqtt_url="mqtt://127.0.0.1")
    assert result.returncode == 2
    assert f"Invalid value for '{options[0]}'" in result.stderr


async def test_a_signal_ends_a_long_history_at_once(settings: Settings, own_broker: EmbeddedMosquitto) -> None:
    where = environment(mqtt_url=settings.mqtt_url, http_port=settings.http_port)
    command = argv("simulate", "--devices", 3, "--history", 50_000)
    async with services.api(settings), aiomqtt.Client(own_broker.host, own_broker.port) as reader:
        await reader.subscribe("devices/#")
        process = await asyncio.create_subprocess_exec(*command, env=where, stdout=asyncio.subprocess.PIPE)
        await anext(aiter(reader.messages))
        process.terminate()
        async with asyncio.timeout(HANG_S):
            assert b"sent " in (await process.communicate())[0]
        assert process.returncode == 0


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("http://ada:the-password@127.0.0.1:8000", "set DEVICESTAT_API_KEY instead"),
        ("127.0.0.1:8000", "expected http://127.0.0.1:8000"),
        ("http://[::1", "expected http://127.0.0.1:8000"),
    ],
)
async def test_an_address_of_the_api_that_is_none_is_reported(url: str, says: str) -> None:
    result = await arun("simulate", "--api", url, mqtt_url="mqtt://127.0.0.1:1")
    assert result.returncode == 1
    assert says in result.stderr
    assert "the-password" not in result.stderr
    assert "Traceback" not in result.stderr


async def test_a_broker_that_refuses_what_is_published_is_reported(
    settings: Settings, make_settings: Callable[..., Settings]
) -> None:
    """On a closed broker only a device may publish to its topic. A refusal is a PUBACK with a reason code."""
    with tempfile.TemporaryDirectory(prefix="ds") as directory, ClosedBroker(Path(directory)) as closed:
        mqtt_url = closed.settings(make_settings()).mqtt_url
        async with services.api(settings):
            result = await arun("simulate", "--count", 5, mqtt_url=mqtt_url, http_port=settings.http_port)
    assert result.returncode == 1
    # Several messages are in flight: any of them may be reported.
    assert re.search(r"refuses a message to devices/sim-\d+/stats \(Not authorized\)", result.stderr)
