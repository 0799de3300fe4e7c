"""The effect of each number in mosquitto.conf on a real Mosquitto."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from deploy.doctor.broker_connection import connected, own_client_id
from deploy.doctor.trials.queue import keep_while_away
from deploy.local.mosquitto import EmbeddedMosquitto
from shared.settings import parse_mqtt_url
from tests.ports import free_port
from tests.waiting import eventually

ROUNDED_UP = 2
"""Mosquitto 2.1 queues one or two messages more than its limit."""


@contextmanager
def mosquitto(**options: str) -> Iterator[EmbeddedMosquitto]:
    """Return the project's configuration with these options."""
    with (
        tempfile.TemporaryDirectory(prefix="ds") as directory,
        EmbeddedMosquitto(Path(directory), free_port(), options) as broker,
    ):
        yield broker


async def test_it_takes_the_file_without_a_complaint_and_tells_its_limits(own_broker: EmbeddedMosquitto) -> None:
    async with connected(parse_mqtt_url(own_broker.url), own_client_id()) as connection:
        connack = connection.connack
    assert (connack.max_packet_size, connack.receive_max) == (8_388_608, 1000)
    log = own_broker.log.read_text().lower()
    assert "connected" in log
    assert [word for word in ("error", "warning", "deprecated", "invalid") if word in log] == []


@pytest.mark.parametrize(
    ("options", "kept"),
    [
        ({"max_queued_messages": "30"}, 30),
        ({"max_queued_bytes": "1000"}, 10),
        ({"max_queued_messages": "30", "max_queued_bytes": "1000"}, 10),
        ({}, 100),
    ],
    ids=["by messages", "by bytes", "by whichever is first", "as in the file"],
)
async def test_the_queue_is_bounded(options: dict[str, str], kept: int) -> None:
    with mosquitto(**options) as broker:
        found = await keep_while_away(parse_mqtt_url(broker.url), bytes(100), 100)
    assert found.published == 100
    assert kept <= found.found <= kept + ROUNDED_UP


async def test_it_saves_by_time_also_when_nothing_changes() -> None:
    with mosquitto(autosave_interval="1") as broker:
        file = broker.data / "mosquitto.db"

        async def saved() -> float:
            return file.stat().st_mtime if file.exists() else 0.0

        first = await eventually(saved, bool)
        await eventually(saved, lambda time: time > first)
