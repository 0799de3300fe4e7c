"""`devicestat doctor` and a primary that was replaced by its standby, and is started again."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from deploy.doctor import Severity
from deploy.doctor.database import examine_database
from deploy.doctor.servers import each_server
from deploy.local.postgres import DATABASE, EmbeddedPostgres
from shared.settings import Settings
from shared.status.findings import Finding


@pytest.fixture
def standby(own_postgres: EmbeddedPostgres) -> Iterator[EmbeddedPostgres]:
    """A copy of the server that takes no writes until it is promoted."""
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


async def about_servers(*servers: EmbeddedPostgres) -> Finding | None:
    """Return what doctor says of the servers of a URL that names these."""
    hosts = ",".join(str(server.directory / "run") for server in servers)
    url = f"postgresql://postgres@/{DATABASE}?host={hosts}&port=5432&target_session_attrs=read-write"
    found = [one for one in await examine_database(Settings(database_url=url)) if one.what == "servers"]
    assert len(found) <= 1
    return found[0] if found else None


async def test_two_servers_that_take_writes_are_named(
    own_postgres: EmbeddedPostgres, standby: EmbeddedPostgres
) -> None:
    primary, other = (f"{server.directory}/run:5432/{DATABASE}" for server in (own_postgres, standby))
    found = await about_servers(own_postgres, standby)
    assert found == Finding(Severity.OK, "servers", f"{other} can replace {primary}")
    with psycopg.connect(standby.url, autocommit=True) as connection:
        connection.execute("SELECT pg_promote()")
    found = await about_servers(own_postgres, standby)
    assert found is not None
    assert found.severity is Severity.WRONG
    assert found.text.startswith(
        f"{primary} and {other} take writes, which only one may: stop the one that was replaced"
    )


async def test_a_server_that_is_away_is_named(own_postgres: EmbeddedPostgres, standby: EmbeddedPostgres) -> None:
    standby.stop()
    found = await about_servers(own_postgres, standby)
    assert found is not None
    assert found.severity is Severity.WARNING
    assert str(standby.directory) in found.text
    assert "no server can replace the other" in found.text


async def test_one_server_with_two_addresses_is_one(own_postgres: EmbeddedPostgres) -> None:
    assert await about_servers(own_postgres) is None
    assert await about_servers(own_postgres, own_postgres) is None


@pytest.mark.parametrize(
    ("url", "servers"),
    [
        ("postgresql://u@a/db", ["user=u dbname=db host=a target_session_attrs=any"]),
        (
            "postgresql://a:1,b:2/db?target_session_attrs=read-write",
            [
                "dbname=db host=a port=1 target_session_attrs=any",
                "dbname=db host=b port=2 target_session_attrs=any",
            ],
        ),
        (
            "host=a,b hostaddr=127.0.0.1,127.0.0.2 port=5",
            [
                "host=a hostaddr=127.0.0.1 port=5 target_session_attrs=any",
                "host=b hostaddr=127.0.0.2 port=5 target_session_attrs=any",
            ],
        ),
    ],
)  # fmt: skip
def test_each_server_has_its_address(url: str, servers: list[str]) -> None:
    assert [sorted(found.split()) for found in each_server(url)] == [sorted(server.split()) for server in servers]
