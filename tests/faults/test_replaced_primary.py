"""`devicestat doctor` and the servers of a URL: a primary, its standby, and a replaced primary that runs again."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from deploy.doctor import Severity
from deploy.doctor.database import examine_database
from deploy.local.postgres import DATABASE, EmbeddedPostgres
from shared.settings import Settings
from shared.status.findings import Finding
from tests.waiting import eventually

WRITES = "target_session_attrs=read-write"


@pytest.fixture
def standby(own_postgres: EmbeddedPostgres) -> Iterator[EmbeddedPostgres]:
    """A standby that `follow` lets receive from the server."""
    with tempfile.TemporaryDirectory(prefix="ds") as directory:
        copy = EmbeddedPostgres(Path(directory))
        own_postgres.stop()
        copy_with_owners(own_postgres.data, copy.data)
        (copy.data / "standby.signal").touch()
        own_postgres.start()
        with copy:
            yield copy


def copy_with_owners(source: Path, target: Path) -> None:
    shutil.copytree(source, target)
    owner = source.stat()
    for path in (target, *target.rglob("*")):
        os.chown(path, owner.st_uid, owner.st_gid)


def execute(server: EmbeddedPostgres, *statements: str) -> None:
    with psycopg.connect(server.url, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement.encode())


def named(server: EmbeddedPostgres) -> str:
    return f"{server.directory}/run:5432/{DATABASE}"


async def about_servers(*servers: EmbeddedPostgres, query: str = WRITES) -> list[Finding]:
    """Return what doctor says of the servers of a URL that names these."""
    hosts = ",".join(str(server.directory / "run") for server in servers)
    url = f"postgresql://postgres@/{DATABASE}?host={hosts}&port=5432&{query}"
    return [one for one in await examine_database(Settings(database_url=url)) if one.what == "servers"]


async def test_a_standby_that_receives_and_one_that_does_not(
    own_postgres: EmbeddedPostgres, standby: EmbeddedPostgres
) -> None:
    behind = f"{named(standby)} receives nothing from {named(own_postgres)}, and falls behind: its log says why"
    assert await about_servers(own_postgres, standby) == [Finding(Severity.WARNING, "servers", behind)]
    source = f"host={own_postgres.directory / 'run'} port=5432 user=postgres"
    execute(standby, f"ALTER SYSTEM SET primary_conninfo = '{source}'", "SELECT pg_reload_conf()")
    well = [Finding(Severity.OK, "servers", f"{named(standby)} is a standby of {named(own_postgres)}")]
    await eventually(lambda: about_servers(own_postgres, standby), lambda found: found == well)
    first, choice = await about_servers(standby, own_postgres, query="application_name=x")
    assert first == well[0]
    assert choice.severity is Severity.WARNING
    assert "add target_session_attrs=read-write to the URL" in choice.text


async def test_of_two_servers_that_take_writes_the_one_to_stop_is_named(
    own_postgres: EmbeddedPostgres, standby: EmbeddedPostgres
) -> None:
    execute(standby, "SELECT pg_promote()")
    for order in ((own_postgres, standby), (standby, own_postgres)):
        (found,) = await about_servers(*order)
        assert found.severity is Severity.WRONG
        assert found.text.startswith(f"{named(own_postgres)} and {named(standby)} take writes, which only one may")
        assert f"{named(standby)} was promoted last: stop {named(own_postgres)} at once" in found.text


async def test_a_server_that_is_away_is_named(own_postgres: EmbeddedPostgres, standby: EmbeddedPostgres) -> None:
    standby.stop()
    (found,) = await about_servers(own_postgres, standby)
    assert found.severity is Severity.WARNING
    assert str(standby.directory) in found.text
    assert "So nobody knows whether it takes writes" in found.text


async def test_one_server_with_two_addresses_is_one(own_postgres: EmbeddedPostgres) -> None:
    assert await about_servers(own_postgres) == []
    assert await about_servers(own_postgres, own_postgres, query="application_name=x") == []
