"""A fault outside of Devicestat is one line with advice and exit code 1, never a traceback."""

import asyncio
import os
import subprocess
import tempfile
from pathlib import Path

import psycopg
import pytest

from deploy.local.postgres import EmbeddedPostgres
from tests.command import argv, environment, run
from tests.conftest import Broker
from tests.faults.test_writes_refused import database_on, filled, small_disk
from tests.integration.test_cli import assert_explained, ports
from tests.letters import keep, letter

__all__ = ["small_disk"]  # a fixture


@pytest.mark.parametrize("command", ["serve", "work", "ingest", "migrate", "dead-letters list"])
@pytest.mark.parametrize("path", ["no_such_schema", "closed"])
def test_a_search_path_without_a_usable_schema(
    command: str, path: str, empty_database_url: str, broker: Broker
) -> None:
    with psycopg.connect(empty_database_url, autocommit=True) as connection:
        connection.execute("CREATE SCHEMA closed")
        connection.execute(f"ALTER DATABASE {connection.info.dbname} SET search_path = {path}".encode())
        connection.execute("DROP ROLE IF EXISTS one_line")
        connection.execute("CREATE ROLE one_line LOGIN SUPERUSER")
        if path == "closed":
            connection.execute("ALTER ROLE one_line NOSUPERUSER")
    url = empty_database_url.replace("postgres@", "one_line@", 1)
    try:
        result = run(*command.split(), database_url=url, mqtt_url=broker.url, **ports())
        assert_explained(result, f"search_path of one_line is {path}", "create the schema", "GRANT USAGE")
    finally:
        with psycopg.connect(empty_database_url, autocommit=True) as connection:
            connection.execute("DROP ROLE one_line")


async def test_a_disk_that_is_full_during_a_migration(small_disk: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="ds") as name, EmbeddedPostgres(Path(name)) as postgres:
        await database_on(small_disk, postgres)
        url = postgres.url_of("small")
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
        with filled(small_disk):
            result = run("migrate", database_url=url)
    assert_explained(result, "disk is full", "No space left on device")


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["doctor"]], ids=" ".join)
def test_output_that_cannot_be_written(arguments: list[str], database_url: str, broker: Broker) -> None:
    with Path("/dev/full").open("w") as full:
        result = subprocess.run(
            argv(*arguments),
            env=environment(database_url=database_url, mqtt_url=broker.url),
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert result.stderr == "devicestat: the output cannot be written: No space left on device\n"
    assert result.returncode == 1


@pytest.mark.parametrize(
    "variables",
    [{"PYTHONIOENCODING": "ascii"}, {"PYTHONIOENCODING": "latin-1"}, {"LC_ALL": "C", "PYTHONUTF8": "0"}],
    ids=str,
)
async def test_output_in_another_encoding(variables: dict[str, str], database_url: str) -> None:
    await keep(database_url, [letter("devices/Süd-€/stats", b"{}")])
    result = await asyncio.to_thread(
        subprocess.run,
        argv("dead-letters", "list"),
        env=environment(database_url=database_url) | variables,
        capture_output=True,
        check=False,
    )
    assert (result.returncode, b"Traceback" in result.stderr) == (0, False), result.stderr
    assert b"devices/S" in result.stdout


@pytest.mark.parametrize("content", ["", str(os.getpid())], ids=["empty", "another process's"])
def test_a_stale_lock_file_of_postgresql(content: str) -> None:
    """After a crash of the machine: an empty file, or the id of an unrelated process."""
    with tempfile.TemporaryDirectory(prefix="ds") as name:
        server = EmbeddedPostgres(Path(name), {"fsync": "off"})
        with server:
            lines = (server.data / "postmaster.pid").read_text().splitlines()
        if content:
            # A process of PostgreSQL's user, because PostgreSQL itself ignores those of other users.
            other = subprocess.Popen(["sleep", "600"], user=server.user)
            (server.data / "postmaster.pid").write_text("\n".join([str(other.pid), *lines[1:], ""]))
        else:
            (server.data / "postmaster.pid").write_text("")
        try:
            with server:
                assert server.ready()
        finally:
            if content:
                other.kill()
                other.wait()


def test_the_lock_file_of_a_server_that_runs_stays() -> None:
    with tempfile.TemporaryDirectory(prefix="ds") as name, EmbeddedPostgres(Path(name), {"fsync": "off"}) as server:
        server.prepare()
        assert (server.data / "postmaster.pid").exists()
