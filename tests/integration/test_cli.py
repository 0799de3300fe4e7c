"""The `devicestat` command: a mistake of the user is one clear line and exit code 1, without a traceback."""

import re
import socket
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from shared.postgres.migrate import migrations
from tests.command import run
from tests.conftest import Broker
from tests.ports import free_port

COMMANDS = ("up", "migrate", "ingest", "serve", "work", "simulate", "doctor", "dead-letters")
SERVICES = ("ingest", "serve", "work")


def assert_explained(result: subprocess.CompletedProcess[str], *parts: str, lines: int = 1) -> None:
    """Assert exit code 1, and exactly these lines on standard error."""
    assert result.returncode == 1, result.stderr
    said = [line for line in result.stderr.splitlines() if line.startswith("devicestat: ")]
    assert len(said) == lines, result.stderr
    assert "Traceback" not in result.stderr
    for part in parts:
        assert part in result.stderr


def test_help_names_every_command() -> None:
    result = run("--help")
    assert result.returncode == 0
    assert set(COMMANDS) <= set(re.findall(r"^  ([a-z-]+) ", result.stdout, re.MULTILINE))


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command: str) -> None:
    result = run(command, "--help")
    assert result.returncode == 0
    assert result.stdout.startswith("Usage:")


def test_the_version_is_the_distributions() -> None:
    assert re.fullmatch(
        r"devicestat \d+\.\d+\.\d+\n", run("--version").stdout.replace("python -m deploy.cli.main", "devicestat")
    )


def test_help_does_not_load_what_it_does_not_need() -> None:
    """So that help is fast."""
    heavy = ("litestar", "psycopg", "aiomqtt", "httpx", "rich")
    code = f"import sys, deploy.cli.main; print([name for name in {heavy} if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_up_without_its_extra_says_what_to_install(tmp_path: Path) -> None:
    code = "import sys; sys.modules['psutil'] = None; from deploy.cli.main import main; main(['up'])"
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert_explained(result, "pip install 'devicestat[local]'")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", [*SERVICES, "migrate"])
def test_all_faults_of_the_settings_come_at_once(command: str) -> None:
    result = run(command, batch_linger_ms="soon", http_port=70_000, mqtt_windw=1)
    lines = 6 if command == "ingest" else 5
    assert_explained(result, "BATCH_LINGER_MS", "HTTP_PORT", "DATABASE_URL is not set", "MQTT_WINDOW?", lines=lines)
    assert ("MQTT_URL is not set" in result.stderr) is (command == "ingest")
    assert "`devicestat up` prints an export line" in result.stderr


def test_a_configuration_file_gives_settings_and_the_environment_wins(tmp_path: Path) -> None:
    port = free_port()
    file = tmp_path / "devicestat.toml"
    file.write_text(f'[devicestat]\ndatabase_url = "postgresql://127.0.0.1:{port}/fromfile"\nstart_timeout = "1s"\n')
    assert_explained(run("--config", file, "migrate"), f"127.0.0.1:{port}/fromfile")
    assert_explained(run("migrate", config=file), f"127.0.0.1:{port}/fromfile")
    overruled = run("--config", file, "migrate", database_url=f"postgresql://127.0.0.1:{port}/fromenvironment")
    assert_explained(overruled, "fromenvironment")


@pytest.mark.parametrize(("content", "fault"), [(None, "cannot be read"), ("[devicestat", "is not TOML")])
def test_a_configuration_file_that_cannot_be_used(tmp_path: Path, content: str | None, fault: str) -> None:
    file = tmp_path / "devicestat.toml"
    if content is not None:
        file.write_text(content)
    assert_explained(run("--config", file, "serve", database_url="postgresql://localhost/x"), str(file), fault)


@pytest.mark.parametrize("command", [*SERVICES, "migrate", "dead-letters list"])
def test_a_database_that_does_not_answer(command: str, broker: Broker) -> None:
    port = free_port()
    url = f"postgresql://someone:secret@127.0.0.1:{port}/d"
    result = run(*command.split(), database_url=url, mqtt_url=broker.url, start_timeout="1s", **ports())
    assert_explained(result, f"127.0.0.1:{port}/d", "Is it running, and is DEVICESTAT_DATABASE_URL right?")
    assert "secret" not in result.stderr


@pytest.mark.parametrize("command", SERVICES)
def test_a_schema_that_is_too_old(command: str, empty_database_url: str, broker: Broker) -> None:
    result = run(command, database_url=empty_database_url, mqtt_url=broker.url, **ports())
    assert_explained(result, "schema is at version 0", "run `devicestat migrate`")


@pytest.mark.parametrize("command", [*SERVICES, "migrate"])
def test_a_schema_that_is_too_new(command: str, database_url: str, broker: Broker) -> None:
    with psycopg.connect(database_url) as connection:
        connection.execute("INSERT INTO schema_migrations VALUES (9999, 'from the future', '')")
    result = run(command, database_url=database_url, mqtt_url=broker.url, **ports())
    assert_explained(result, "schema is at version 9999", "upgrade devicestat")


@pytest.mark.parametrize(
    ("command", "setting"),
    [("ingest", "ingestor_metrics_port"), ("serve", "http_port"), ("work", "worker_metrics_port")],
)
def test_a_taken_port(command: str, setting: str, database_url: str, broker: Broker) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        given = {**ports(), setting: port}
        result = run(command, database_url=database_url, mqtt_url=broker.url, **given)
    assert_explained(result, f"port {port}", f"DEVICESTAT_{setting.upper()}")


def test_a_broker_that_does_not_answer(database_url: str) -> None:
    port = free_port()
    result = run(
        "ingest", database_url=database_url, mqtt_url=f"mqtt://u:secret@127.0.0.1:{port}", start_timeout="1s", **ports()
    )
    assert_explained(result, f"127.0.0.1:{port}", "DEVICESTAT_MQTT_URL")
    assert "secret" not in result.stderr


def test_migrate_says_what_it_applied_and_then_that_there_is_nothing_left(empty_database_url: str) -> None:
    newest = migrations()[-1]
    first = run("migrate", database_url=empty_database_url)
    assert (first.returncode, first.stderr) == (0, "")
    assert f"applied {newest.version:04} {newest.name}" in first.stdout
    assert first.stdout.endswith(f"the schema is now at version {newest.version}\n")
    second = run("migrate", database_url=empty_database_url)
    assert (second.returncode, second.stdout) == (0, f"the schema is already at version {newest.version}\n")


def test_migrate_without_the_right_to_says_so(empty_database_url: str) -> None:
    with psycopg.connect(empty_database_url, autocommit=True) as connection:
        connection.execute(f"ALTER DATABASE {connection.info.dbname} SET default_transaction_read_only = on".encode())
    assert_explained(run("migrate", database_url=empty_database_url), "PostgreSQL refuses", "read-only transaction")


def ports() -> dict[str, object]:
    """Return a free port for each service."""
    return {name: free_port() for name in ("http_port", "ingestor_metrics_port", "worker_metrics_port")}
