"""A service waits for a server that is not ready yet, and logs this; permanent faults end it immediately."""

import asyncio
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest
from psycopg import sql

from deploy.local.children import let_through
from deploy.local.mosquitto import EmbeddedMosquitto
from deploy.local.postgres import EmbeddedPostgres
from ingestor.service import ingest
from query_api.worker.service import work
from shared.errors import LoginRefused
from shared.postgres.starting import Patience, connect_patiently
from shared.settings import Settings
from tests import command
from tests.conftest import Broker
from tests.faults.test_postgresql_faults import kill_postmaster
from tests.ports import free_port
from tests.proxy import Proxy, open_postgres, running
from tests.roles import url_as
from tests.services import is_ready, serve
from tests.waiting import eventually

PORTS = {"ingest": "ingestor_metrics_port", "serve": "http_port", "work": "worker_metrics_port"}


class Service:
    """A service as a process, with its log."""

    def __init__(self, service: str, log: Path, **settings: object) -> None:
        self._log = log
        self.port = free_port()
        given = {**dict.fromkeys(PORTS.values(), 0), PORTS.get(service, "http_port"): self.port, **settings}
        with log.open("wb") as file:
            self.process = subprocess.Popen(command.argv(service), env=command.environment(**given), stderr=file)

    @property
    def logged(self) -> str:
        return self._log.read_text()

    async def says(self, words: str, times: int = 1) -> None:
        """Wait until the log has the text `times` times."""
        await self._until(lambda: self.logged.count(words) >= times)

    async def ready(self) -> None:
        async def look() -> bool:
            assert self.process.poll() is None, self.logged
            return await is_ready(self.port)

        await eventually(look, bool, 60)

    async def _until(self, condition: Callable[[], bool]) -> None:
        async def look() -> bool:
            assert self.process.poll() is None or condition(), self.logged
            return condition()

        await eventually(look, bool, 60)

    async def ended(self) -> int:
        return await asyncio.to_thread(self.process.wait, 60)

    async def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return await self.ended()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Service]]:
    """Function that starts a service; the fixture kills running ones after the test."""
    started: list[Service] = []

    def start_one(service: str, **settings: object) -> Service:
        started.append(Service(service, tmp_path / f"{service} {len(started)}.log", **settings))
        return started[-1]

    yield start_one
    for one in started:
        one.process.kill()
        one.process.wait()


Start = Callable[..., Service]
Main = Callable[[Settings, asyncio.Event], Awaitable[None]]


@contextmanager
def own_database(directory: Path) -> Iterator[EmbeddedPostgres]:
    with EmbeddedPostgres(directory) as postgres:
        result = command.run("migrate", database_url=postgres.url)
        assert result.returncode == 0, result.stderr
        yield postgres


async def test_every_service_waits_while_postgresql_recovers_from_a_crash(broker: Broker, start: Start) -> None:
    with tempfile.TemporaryDirectory(prefix="ds") as name, own_database(Path(name)) as postgres:
        kill_postmaster(postgres)
        with held_in_recovery(postgres) as finish:
            given = {"database_url": postgres.url, "mqtt_url": broker.url}
            services = [start(one, **given) for one in PORTS]
            for service in services:
                await service.says("waiting for PostgreSQL")
                await service.says("the database system is")
            finish()
            for service in services:
                await service.ready()
            assert [await service.stop() for service in services] == [0, 0, 0]


@contextmanager
def held_in_recovery(postgres: EmbeddedPostgres) -> Iterator[Callable[[], None]]:
    """Start a crashed server as a standby: it recovers, and refuses connections until the function is called."""
    signal_file = postgres.data / "standby.signal"
    signal_file.touch()
    shutil.copystat(postgres.data / "PG_VERSION", signal_file)
    shutil.chown(signal_file, postgres.data.owner())
    program = postgres.program
    process = subprocess.Popen([*program.argv, "-c", "hot_standby=off"], **program.popen_options())

    def promote() -> None:
        (postgres.data / "promote").touch()
        process.send_signal(signal.SIGUSR1)

    try:
        yield promote
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(60)


async def test_every_service_waits_for_a_server_that_does_not_listen_yet(
    database_url: str, broker: Broker, start: Start
) -> None:
    port = free_port()
    url = at_port(database_url, port)
    services = [start(one, database_url=url, mqtt_url=broker.url) for one in PORTS]
    for service in services:
        await service.says("waiting for PostgreSQL")
        await service.says("Is it running")
    proxy = Proxy(partial(open_postgres, database_url))
    proxy.port = port
    async with running(proxy):
        for service in services:
            await service.ready()
        assert [await service.stop() for service in services] == [0, 0, 0]


def at_port(url: str, port: int) -> str:
    """Return the URL of the database with the port."""
    parts = urlsplit(url)
    user = parts.netloc.rpartition("@")[0]
    return urlunsplit(parts._replace(netloc=f"{user}@127.0.0.1:{port}", query=""))


async def test_a_service_waits_for_a_place_among_the_connections(database_url: str, start: Start) -> None:
    limit = sql.SQL("ALTER DATABASE {} CONNECTION LIMIT {}")
    with psycopg.connect(database_url, autocommit=True) as connection:
        name = sql.Identifier(connection.info.dbname)
        connection.execute(limit.format(name, 0))
        service = start("serve", database_url=url_as(database_url, "api"))
        await service.says("too many connections for database")
        connection.execute(limit.format(name, -1))
        await service.ready()


async def test_the_ingestor_waits_for_a_broker_that_does_not_listen_yet(database_url: str, start: Start) -> None:
    port = free_port()
    service = start("ingest", database_url=database_url, mqtt_url=f"mqtt://127.0.0.1:{port}")
    await service.says("waiting for the broker")
    with tempfile.TemporaryDirectory(prefix="ds") as name, EmbeddedMosquitto(Path(name), port):
        await service.ready()
        assert await service.stop() == 0


async def test_migrate_waits_too(start: Start, empty_database_url: str) -> None:
    port = free_port()
    service = start("migrate", database_url=at_port(empty_database_url, port))
    await service.says("waiting for PostgreSQL")
    proxy = Proxy(partial(open_postgres, empty_database_url))
    proxy.port = port
    async with running(proxy):
        assert await service.ended() == 0


async def test_a_signal_ends_the_wait(broker: Broker, start: Start) -> None:
    url = f"postgresql://nobody@127.0.0.1:{free_port()}/nothing"
    services = [start(one, database_url=url, mqtt_url=broker.url) for one in PORTS]
    for service in services:
        await service.says("waiting for PostgreSQL")
        service.process.send_signal(signal.SIGTERM)
    assert [await service.ended() for service in services] == [0, 0, 0]


async def test_a_line_says_again_what_is_waited_for() -> None:
    said: list[str] = []
    stop = asyncio.Event()

    def say(line: str) -> None:
        said.append(line)
        if len(said) == 2:
            stop.set()

    url = "postgresql://nobody@no-such-host.invalid/nothing"
    assert await connect_patiently(url, "test", Patience(None), stop, say) is None
    assert all(line.startswith("waiting for PostgreSQL: no connection to PostgreSQL at no-such-host") for line in said)


@pytest.mark.parametrize(
    ("change", "words"),
    [({"path": "/no_such_database"}, "does not exist"), ({"netloc": "no_such_role@"}, "no_such_role")],
    ids=["database", "role"],
)
@pytest.mark.parametrize("service", [ingest, serve, work])
async def test_a_permanent_fault_ends_it_immediately(
    service: Main, change: dict[str, str], words: str, postgres_server: str
) -> None:
    parts = urlsplit(postgres_server)
    if "netloc" in change:
        change = {"netloc": change["netloc"] + parts.netloc.rpartition("@")[2]}
    url = urlunsplit(parts._replace(**change))
    settings = Settings(
        database_url=url,
        mqtt_url="mqtt://127.0.0.1",
        http_port=free_port(),
        ingestor_metrics_port=0,
        worker_metrics_port=0,
    )
    with pytest.raises(LoginRefused, match=words):
        await service(settings, asyncio.Event())


async def test_a_wrong_password_ends_it_immediately(start: Start) -> None:
    with tempfile.TemporaryDirectory(prefix="ds") as name:
        rules = Path(name) / "pg_hba.conf"
        rules.write_text("local all postgres trust\nlocal all all scram-sha-256\n")
        let_through(rules)
        with EmbeddedPostgres(Path(name) / "server", {"hba_file": str(rules), "fsync": "off"}) as postgres:
            with psycopg.connect(postgres.url, autocommit=True) as connection:
                connection.execute("CREATE ROLE device_owner LOGIN PASSWORD 'right'")
            url = postgres.url.replace("postgres@", "device_owner:wrong@")
            ending = start("work", database_url=url)
            assert await ending.ended() == 1
    assert "password authentication failed" in ending.logged
    assert "waiting" not in ending.logged
