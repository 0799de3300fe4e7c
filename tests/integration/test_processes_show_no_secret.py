"""Commands pass secrets to child processes in the environment, which other users cannot read: `ps` shows none."""

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psutil
import pytest

from shared.serving.redaction import secrets_in
from shared.settings import Settings
from tests.command import Up, running_up
from tests.conftest import Broker
from tests.ingestion import IngestorProcess

PASSWORD = "the-password-of-this-test"


@pytest.fixture
def settings(make_settings: Callable[..., Settings], database_url: str, broker: Broker) -> Settings:
    parts = urlsplit(database_url)
    user, _, where = parts.netloc.rpartition("@")
    return make_settings(
        database_url=urlunsplit(parts._replace(netloc=f"{user.partition(':')[0]}:{PASSWORD}-1@{where}")),
        mqtt_url=f"mqtt://user:{PASSWORD}-2@{broker.host}:{broker.port}",
        webhook_secret=f"{PASSWORD}-3",
        metrics_token=f"{PASSWORD}-4",
        device_secret=f"{PASSWORD}-5-and-more",
        log_level="debug",
    )


def command_lines(pid: int) -> Iterator[str]:
    """Return the command lines of the process and its descendants."""
    process = psutil.Process(pid)
    for one in (process, *process.children(recursive=True)):
        yield " ".join(one.cmdline())


async def test_up_shows_no_secret_of_a_database_and_a_broker_of_ones_own(settings: Settings) -> None:
    given = {
        name: value
        for name in settings.__struct_fields__
        if (value := getattr(settings, name)) is not None and not name.endswith("_port")
    }
    with tempfile.TemporaryDirectory(prefix="ds") as directory:
        async with running_up(Up(Path(directory), **given)) as up:
            lines = list(command_lines(up.process.pid))
            assert {"ingest", "serve", "work"} <= {line.rpartition(" ")[2] for line in lines}
            assert PASSWORD not in "\n".join([*lines, *up.lines])
            assert not any("_URL=" in line for line in up.lines)  # the export line has only ports


async def test_processes_that_share_the_work_show_none(
    settings: Settings, start_ingestor: Callable[..., IngestorProcess]
) -> None:
    assert len(set(secrets_in(settings))) == 5
    ingestor = start_ingestor(settings, "--processes", 2)
    await ingestor.until_ready()
    lines = list(command_lines(ingestor.process.pid))
    assert len(lines) >= 3
    assert PASSWORD not in "\n".join(lines)
    code, logged = await ingestor.end()
    assert code == 0
    assert PASSWORD not in logged
    assert "***" not in logged
