"""Fixtures of the fault tests."""

import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from deploy.local.mosquitto import EmbeddedMosquitto
from deploy.local.postgres import EmbeddedPostgres
from shared.postgres.connections import connect
from shared.postgres.migrate import migrate
from shared.postgres.roles import set_up
from tests.faults.stream import add_devices
from tests.ports import free_port


@pytest.fixture
async def own_postgres() -> AsyncIterator[EmbeddedPostgres]:
    """A PostgreSQL that the test may stop, kill and start again; its database `devicestat` is ready for streams."""
    with tempfile.TemporaryDirectory(prefix="ds") as directory, EmbeddedPostgres(Path(directory)) as postgres:
        async with await connect(postgres.url, "test") as database:
            await migrate(database)
            await set_up(database)
            await add_devices(database)
        yield postgres


@pytest.fixture
def impatient_broker() -> Iterator[EmbeddedMosquitto]:
    """A broker with a maximum keep-alive of ten seconds, the shortest that Mosquitto accepts."""
    with (
        tempfile.TemporaryDirectory(prefix="ds") as directory,
        EmbeddedMosquitto(Path(directory), free_port(), {"max_keepalive": "10"}) as mosquitto,
    ):
        yield mosquitto
