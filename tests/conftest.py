"""Real servers for the tests: a PostgreSQL for each worker, a database and a Mosquitto for each test.

- `DEVICESTAT_TEST_DATABASE_URL` and `DEVICESTAT_TEST_MQTT_URL` name running servers.
- With `DEVICESTAT_TEST_STACK=containers`, testcontainers starts them.
- By default they are the embedded servers of `devicestat up`.
- `DEVICESTAT_TEST_CITUS_WORKERS` beside `DEVICESTAT_TEST_DATABASE_URL` names the workers of a Citus cluster
  (`tests/citus.py`). Tests that are marked `plain_only` are skipped there, each with its reason.

The schema is migrated once, into a template database, and cloned for each test. The services under test connect with
the roles of `devicestat migrate --roles`, and the tests as the superuser.

Several workers (pytest-xdist) share the tests, each with its own servers, because most of a test is waiting.
"""

import asyncio
import os
import shutil
import tempfile
import uuid
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import hypothesis
import msgspec
import psutil
import psycopg
import pytest
import uvloop
from psycopg import sql

from deploy.local.mosquitto import EmbeddedMosquitto, derive
from deploy.local.postgres import EmbeddedPostgres
from shared.postgres.connections import Connection as Database
from shared.postgres.connections import connect
from shared.postgres.distribution import distribute
from shared.postgres.migrate import migrate
from shared.postgres.roles import set_up
from shared.settings import Settings
from tests import citus
from tests.browser import running_browser
from tests.disclosure import Disclosure
from tests.ingestion import IngestorProcess
from tests.ports import free_port
from tests.roles import let_roles_in, make_roles

__all__ = ["running_browser"]
POSTGRES_IMAGE = "postgres:18-alpine"
MOSQUITTO_IMAGE = "eclipse-mosquitto:2"
_UNSAFE_AND_FAST = {
    "fsync": "off", "synchronous_commit": "off", "full_page_writes": "off", "file_copy_method": "clone",
}  # fmt: skip
_ROOT = Path(__file__).parents[1]
_MEMORY = Path("/dev/shm")
_ROOM_BYTES = 2 * 1024**3
"""Memory for the data of one PostgreSQL."""
_MAX_WORKERS = 8
_CONTAINERS = os.environ.get("DEVICESTAT_TEST_STACK") == "containers"
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # else each process of a test compiles all its modules: half a second


class Broker(msgspec.Struct, frozen=True):
    """Address of a test's broker."""

    host: str
    port: int

    @property
    def url(self) -> str:
        return f"mqtt://{self.host}:{self.port}"


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Return the event loop of the services (a hook of pytest-asyncio)."""
    return {"uvloop": uvloop.new_event_loop}


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Return one worker more than cores, as tests mostly wait; none for a named test (a hook of pytest-xdist)."""
    if any("::" in argument for argument in config.args):
        return 0
    return min((os.cpu_count() or 1) + 1, _MAX_WORKERS)


def pytest_configure(config: pytest.Config) -> None:
    """Register the search of all output for secrets (a hook of pytest).

    Hypothesis has no deadline for an example, which would measure the load of the machine.
    """
    hypothesis.settings.register_profile(
        "devicestat", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
    )
    hypothesis.settings.load_profile("devicestat")
    config.pluginmanager.register(Disclosure(config), "disclosure")


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test that a Citus cluster cannot run (a hook of pytest)."""
    marker = item.get_closest_marker("plain_only")
    if marker is not None and citus.WORKERS:
        pytest.skip(f"not on Citus: {marker.args[0]}")


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """The URL of a database on the server, as a superuser. The server has the services' roles.

    On an external server they remain, with a random password.
    """
    with _postgres() as url:
        for node in citus.nodes(url):
            asyncio.run(make_roles(node))
        yield url


@contextmanager
def _postgres() -> Iterator[str]:
    if url := os.environ.get("DEVICESTAT_TEST_DATABASE_URL"):
        yield url
    elif _CONTAINERS:
        from testcontainers.postgres import PostgresContainer

        with PostgresContainer(POSTGRES_IMAGE, driver=None) as container:
            yield container.get_connection_url()
    else:
        with (
            tempfile.TemporaryDirectory(prefix="ds", dir=_in_memory()) as directory,
            EmbeddedPostgres(Path(directory), _UNSAFE_AND_FAST) as server,
        ):
            yield server.url


def _in_memory() -> Path | None:
    """Return a directory in memory, if there is one with enough space: cloning is ten times as fast there."""
    wanted = _ROOM_BYTES * int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    roomy = _MEMORY.is_dir() and os.access(_MEMORY, os.W_OK) and shutil.disk_usage(_MEMORY).free > wanted
    return _MEMORY if roomy else None


@pytest.fixture(scope="session")
def template(postgres_server: str) -> Iterator[str]:
    """The name of a migrated database, for cloning."""

    async def migrated(url: str) -> None:
        async with await connect(url, "tests") as connection:
            await migrate(connection)
            await set_up(connection)
            if citus.WORKERS:
                await distribute(connection, citus.SHARDS)

    with _database(postgres_server) as url:
        name = urlsplit(url).path[1:]
        if citus.WORKERS:
            with citus.alone(postgres_server):
                citus.form_cluster(url)
                asyncio.run(migrated(url))
            citus.freeze(postgres_server, name)
        else:
            asyncio.run(migrated(url))
        yield name


@pytest.fixture
def database_url(postgres_server: str, template: str) -> Iterator[str]:
    """The URL of a migrated database for the test."""
    with _database(postgres_server, template) as url:
        let_roles_in(url)
        yield url


@pytest.fixture
def empty_database_url(postgres_server: str) -> Iterator[str]:
    """The URL of a database without a schema for the test."""
    with _database(postgres_server) as url:
        yield url


@contextmanager
def _database(server: str, template: str = "template1") -> Iterator[str]:
    name = f"test_{uuid.uuid4().hex[:12]}"
    if citus.WORKERS:
        with citus.cloned(server, name, template):
            yield citus.at(server, name)
        return
    with psycopg.connect(server, autocommit=True) as connection:
        # Copies of files begin and end with a checkpoint, which is cheap on a server that syncs nothing.
        syncs = connection.execute("SHOW fsync").fetchone() == ("on",)
        create = sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY {}").format(
            sql.Identifier(name), sql.Identifier(template), sql.SQL("wal_log" if syncs else "file_copy")
        )
        connection.execute(create)
        try:
            yield urlunsplit(urlsplit(server)._replace(path=f"/{name}"))
        finally:
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture
def broker(request: pytest.FixtureRequest) -> Broker:
    """A broker for the test; it is not restarted."""
    if url := os.environ.get("DEVICESTAT_TEST_MQTT_URL"):
        parts = urlsplit(url)
        assert parts.hostname is not None
        return Broker(parts.hostname, parts.port or 1883)
    if _CONTAINERS:
        port: int = request.getfixturevalue("_mosquitto_container")
        return Broker("127.0.0.1", port)
    own: EmbeddedMosquitto = request.getfixturevalue("own_broker")
    return Broker(own.host, own.port)


@pytest.fixture
def own_broker() -> Iterator[EmbeddedMosquitto]:
    """A Mosquitto that the test may stop, kill and start again."""
    with (
        tempfile.TemporaryDirectory(prefix="ds") as directory,
        EmbeddedMosquitto(Path(directory), free_port()) as mosquitto,
    ):
        yield mosquitto


@pytest.fixture(scope="session")
def _mosquitto_container(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    from testcontainers.core.container import DockerContainer
    from testcontainers.core.wait_strategies import LogMessageWaitStrategy

    configuration = tmp_path_factory.mktemp("mosquitto") / "mosquitto.conf"
    inside = {"listener": "1883", "persistence_location": "/mosquitto/data/"}
    configuration.write_text("\n".join(derive((_ROOT / "mosquitto.conf").read_text(), inside)))
    container = (
        DockerContainer(MOSQUITTO_IMAGE)
        .with_exposed_ports(1883)
        .with_volume_mapping(str(configuration), "/mosquitto/config/mosquitto.conf", "ro")
        .waiting_for(LogMessageWaitStrategy("running"))
    )
    with container:
        yield int(container.get_exposed_port(1883))


@pytest.fixture
def make_settings(database_url: str, broker: Broker) -> Callable[..., Settings]:
    """Function that returns settings for the test's servers, with a client id and ports of the test."""
    client_id = f"test-{uuid.uuid4().hex[:12]}"

    def make(**changes: object) -> Settings:
        given = {
            "database_url": database_url,
            "mqtt_url": broker.url,
            "mqtt_client_id": client_id,
            "http_port": free_port(),
            "ingestor_metrics_port": free_port(),
            "worker_metrics_port": free_port(),
        }
        return Settings(**{**given, **changes})

    return make


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """A connection to the test's database."""
    async with await connect(database_url, "test") as connection:
        yield connection


@pytest.fixture
def start_ingestor() -> Iterator[Callable[..., IngestorProcess]]:
    """Function that starts an ingestor as a process. The fixture kills it, and its children, after the test."""
    started: list[IngestorProcess] = []

    def start(settings: Settings, *arguments: object, **variables: str) -> IngestorProcess:
        started.append(IngestorProcess(settings, *arguments, **variables))
        return started[-1]

    yield start
    for process in started:
        if process.process.poll() is None:
            children = psutil.Process(process.process.pid).children()
            process.kill()
            for child in children:
                child.kill()
