"""PostgreSQL refuses writes: readiness has the reason, nothing is acknowledged, and ingestion resumes afterwards."""

import errno
import os
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path

import pytest
from psycopg import sql

from deploy.local.children import make_directory
from deploy.local.postgres import EmbeddedPostgres
from shared.postgres.connections import Connection, connect
from shared.postgres.migrate import migrate
from shared.postgres.roles import set_up
from shared.settings import Settings
from tests.conftest import Broker
from tests.faults.mqtt_proxy import MqttProxy
from tests.faults.stream import (
    IN_FLIGHT,
    Stream,
    add_devices,
    expect_a_good_end,
    expect_counts_to_add_up,
    expect_each_once,
    publishing,
)
from tests.ingestion import IngestorProcess, until_not_ready
from tests.proxy import running

Make = Callable[..., Settings]
Start = Callable[..., IngestorProcess]
SMALL_DISK_MIB = 64


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """A small file system, which the test can fill."""
    if os.geteuid() != 0:
        pytest.skip("run as root, which may mount a small file system")
    with tempfile.TemporaryDirectory(prefix="ds") as directory:
        mount = ["mount", "-t", "tmpfs", "-o", f"size={SMALL_DISK_MIB}m", "tmpfs", directory]
        mounted = subprocess.run(mount, capture_output=True, text=True, check=False)
        if mounted.returncode != 0:
            pytest.skip(
                f"run where root may mount a small file system, which it may not here: {mounted.stderr.strip()}"
            )
        try:
            yield Path(directory)
        finally:
            subprocess.run(["umount", "--lazy", directory], check=True)


async def database_on(disk: Path, postgres: EmbeddedPostgres) -> str:
    """URL of a database, ready for streams, with its files on the disk."""
    directory = disk / "tablespace"
    make_directory(directory, postgres.user)
    async with await connect(postgres.url, "test") as server:
        await server.execute(sql.SQL("CREATE TABLESPACE small LOCATION {}").format(str(directory)))
        await server.execute("CREATE DATABASE small TABLESPACE small")
    url = postgres.url_of("small")
    async with await connect(url, "test") as database:
        await migrate(database)
        await set_up(database)
        await add_devices(database)
    return url


@contextmanager
def filled(disk: Path) -> Iterator[None]:
    """Fill the disk for the block."""
    filler = disk / "filler"
    with suppress(OSError), filler.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    assert shutil.disk_usage(disk).free == 0
    yield
    filler.unlink()


@asynccontextmanager
async def read_only(postgres: EmbeddedPostgres) -> AsyncIterator[None]:
    """Make the database read-only, like a standby after a failover."""
    async with await connect(postgres.url_of("postgres"), "test") as server:
        await server.execute("ALTER DATABASE devicestat SET default_transaction_read_only = on")
        await server.execute(_CUT_OFF)
        yield
        await server.execute("ALTER DATABASE devicestat RESET default_transaction_read_only")


_CUT_OFF = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'devicestat'"


async def rows(database: Connection) -> int:
    """Return the number of stored readings."""
    (row,) = await (await database.execute("SELECT count(*) FROM readings")).fetchall()
    return int(row[0])


async def expect_patience(
    process: IngestorProcess, proxy: MqttProxy, stream: Stream, database: Connection, words: str
) -> None:
    """Assert that readiness has the reason, and that no arriving message is stored or acknowledged."""
    await until_not_ready(process.port)
    stored = await rows(database)
    async with proxy.nothing_acknowledged():
        await stream.grows(3000)
        assert words in (await process.why_not_ready())["database"]
        assert (await expect_counts_to_add_up(process.port))[IN_FLIGHT] > 0
    assert await rows(database) == stored


@pytest.mark.parametrize("times", [1, pytest.param(10, marks=pytest.mark.soak)])
async def test_the_disk_is_full(
    times: int,
    small_disk: Path,
    make_settings: Make,
    broker: Broker,
    own_postgres: EmbeddedPostgres,
    start_ingestor: Start,
) -> None:
    url = await database_on(small_disk, own_postgres)
    async with running(MqttProxy(broker)) as proxy, await connect(url, "test") as database:
        process = start_ingestor(make_settings(mqtt_url=f"mqtt://127.0.0.1:{proxy.port}", database_url=url))
        await process.until_ready()
        async with publishing(broker) as stream:
            for _ in range(times):
                await stream.grows(1000)
                with filled(small_disk):
                    await expect_patience(process, proxy, stream, database, os.strerror(errno.ENOSPC))
                await process.until_ready()
        await expect_each_once(database, stream)
        await expect_a_good_end(process)


@pytest.mark.parametrize("times", [1, pytest.param(10, marks=pytest.mark.soak)])
async def test_the_database_is_read_only_for_a_while(
    times: int, make_settings: Make, broker: Broker, own_postgres: EmbeddedPostgres, start_ingestor: Start
) -> None:
    url = own_postgres.url
    async with running(MqttProxy(broker)) as proxy:
        process = start_ingestor(make_settings(mqtt_url=f"mqtt://127.0.0.1:{proxy.port}", database_url=url))
        await process.until_ready()
        async with publishing(broker) as stream:
            for _ in range(times):
                await stream.grows(1000)
                async with read_only(own_postgres), await connect(url, "test") as database:
                    await expect_patience(process, proxy, stream, database, "read-only")
                await process.until_ready()
        async with await connect(url, "test") as database:
            await expect_each_once(database, stream)
        await expect_a_good_end(process)
