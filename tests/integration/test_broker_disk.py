"""The broker's disk: doctor and metrics report that it is full, and the test shows what is lost."""

import asyncio
import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import aiomqtt
import pytest

from deploy.doctor.broker_disk import SMALL_BYTES, examine_broker_disk
from deploy.local.mosquitto import EmbeddedMosquitto
from deploy.local.mosquitto_log import explain
from shared.broker.data_directory import SAVED
from shared.settings import Settings
from shared.status.findings import Finding, Severity
from tests.command import run
from tests.ingestion import metrics, running_ingestor
from tests.ports import free_port
from tests.publisher import Message, publish
from tests.waiting import eventually

DISK_BYTES = 2 * 1024 * 1024
QUIET_S = 1.0
HALF = 800
"""Messages of 1000 bytes. The disk has space for two saves of them, but not of twice as many."""


@pytest.fixture
def small_disk() -> Iterator[EmbeddedMosquitto]:
    """A broker that saves every second, on a small disk."""
    with tempfile.TemporaryDirectory(prefix="ds") as name:
        data = Path(name) / "data"
        data.mkdir()
        mount = ("mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(data))
        if os.geteuid() != 0 or subprocess.run(mount, check=False, capture_output=True).returncode:
            pytest.skip("run as root, where a tmpfs can be mounted")
        try:
            with EmbeddedMosquitto(Path(name), free_port(), {"autosave_interval": "1"}) as broker:
                yield broker
        finally:
            subprocess.run(("umount", "-l", data), check=True)


def found(directory: Path) -> dict[str, Finding]:
    return {finding.what: finding for finding in examine_broker_disk(Settings(broker_data_dir=str(directory)))}


def session(broker: EmbeddedMosquitto) -> aiomqtt.Client:
    return aiomqtt.Client(broker.host, broker.port, identifier="kept", clean_session=False)


async def send_half(broker: EmbeddedMosquitto) -> None:
    """Publish, and wait until the broker has acknowledged all."""
    assert await publish(broker.host, broker.port, *[Message(bytes(1000))] * HALF) == HALF


async def test_a_full_disk_is_reported_and_what_it_costs(small_disk: EmbeddedMosquitto) -> None:
    """As if the database were stopped: no client receives the messages."""
    broker, file = small_disk, small_disk.data / SAVED
    async with session(broker) as subscriber:
        await subscriber.subscribe("devices/+/stats", qos=1)
    await send_half(broker)

    async def size() -> int:
        return file.stat().st_size if file.exists() else 0

    saved = await eventually(size, lambda size: size > HALF * 1000)
    assert found(broker.data)["broker disk"].severity is Severity.WARNING
    assert found(broker.data)["broker saved"].severity is Severity.OK
    await send_half(broker)

    async def complaint() -> list[str]:
        return [line for line in broker.log.read_text().splitlines() if "No space left on device" in line]

    line = (await eventually(complaint, bool))[0]
    explanation = explain(line, broker.data)
    assert explanation is not None
    assert f"the disk of {broker.data} is full" in explanation.text
    disk = found(broker.data)["broker disk"]
    assert disk.severity is Severity.WRONG
    assert f"a save needs {saved:,} bytes next to the last one" in disk.text
    broker.stop()
    broker.start()
    received = 0
    async with session(broker) as subscriber:
        async for _ in subscriber.messages:
            received += 1
            if received == HALF:
                break
        else:
            pytest.fail(f"{received} of what was saved")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(QUIET_S):
                await anext(aiter(subscriber.messages))


async def test_a_save_that_is_old_is_reported(own_broker: EmbeddedMosquitto) -> None:
    own_broker.stop()  # it has saved
    file = own_broker.data / SAVED
    assert found(own_broker.data)["broker saved"].severity is Severity.OK
    hour = time.time() - 7200
    os.utime(file, (hour, hour))
    saved = found(own_broker.data)["broker saved"]
    assert saved.severity is Severity.WRONG
    assert saved.text.startswith(f"{file} was saved 2 hours ago, but mosquitto.conf saves it every 10 seconds: ")


async def test_the_ingestors_metrics_have_the_figures(
    make_settings: Callable[..., Settings], own_broker: EmbeddedMosquitto
) -> None:
    own_broker.stop()
    own_broker.start()
    settings = make_settings(mqtt_url=own_broker.url, broker_data_dir=str(own_broker.data))
    async with running_ingestor(settings):
        figures = await metrics(settings.ingestor_metrics_port)
    assert figures["devicestat_broker_disk_free_bytes"] > SMALL_BYTES
    assert figures["devicestat_broker_saved_bytes"] == (own_broker.data / SAVED).stat().st_size
    assert figures["devicestat_broker_last_save_timestamp_seconds"] > time.time() - 60


def test_a_directory_that_is_not_there_is_named(database_url: str, own_broker: EmbeddedMosquitto) -> None:
    wrong = run(
        "doctor", database_url=database_url, mqtt_url=own_broker.url, ingestor_metrics_port=0,
        broker_data_dir="/nowhere/at all",
    )  # fmt: skip
    assert wrong.returncode == 1
    (line,) = (line for line in wrong.stdout.splitlines() if line.startswith("wrong"))
    assert "DEVICESTAT_BROKER_DATA_DIR is '/nowhere/at all', which cannot be read (No such file" in line
