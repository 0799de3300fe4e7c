"""A device publishes faster than its readings are stored, without other faults: the broker's queue fills."""

import re
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from deploy.doctor.broker import examine_broker
from deploy.local.mosquitto import EmbeddedMosquitto
from deploy.local.mosquitto_log import explain
from shared.settings import Settings
from shared.status.findings import Finding, Severity
from tests.conftest import Database
from tests.faults.stream import add_devices
from tests.ingestion import IngestorProcess
from tests.ports import free_port
from tests.publisher import Message, publish, publish_lines
from tests.waiting import eventually

FLOOD, SIZE = 200, 500
"""Numbers of messages, and of readings in each."""
QUIET = 20
_ARRAY = b"[" + b",".join([b'{"x":1,"y":2,"z":3}'] * SIZE) + b"]"


async def stored(database: Database) -> tuple[int, int]:
    """Return the numbers of stored messages of the flooding device and of the quiet one."""
    query = "SELECT count(*) FILTER (WHERE device_id = 1), count(*) FILTER (WHERE device_id = 2) FROM readings"
    ((flood, quiet),) = await (await database.execute(query)).fetchall()
    return int(flood) // SIZE, int(quiet)


async def dropped(broker: EmbeddedMosquitto) -> tuple[int, Finding | None]:
    """Return the doctor's result."""
    findings = await examine_broker(Settings(mqtt_url=broker.url), messages=1)  # its probe is not to be counted
    finding = next((one for one in findings if one.what == "dropped"), None)
    count = None if finding is None else re.search(r"dropped (\d+) acknowledged", finding.text)
    return (0 if count is None else int(count[1])), finding


@pytest.mark.parametrize(
    ("options", "some_are_dropped"),
    [({"max_queued_messages": "20"}, True), ({}, False)],
    ids=["small bounds", "those of mosquitto.conf"],
)
async def test_what_exceeds_the_queue_is_dropped_for_every_device_and_told(
    options: dict[str, str],
    some_are_dropped: bool,
    make_settings: Callable[..., Settings],
    database: Database,
    start_ingestor: Callable[..., IngestorProcess],
) -> None:
    """The broker acknowledges all messages. Each is either stored or counted as dropped."""
    await add_devices(database)
    with (
        tempfile.TemporaryDirectory(prefix="ds") as directory,
        EmbeddedMosquitto(Path(directory), free_port(), {**options, "sys_interval": "1"}) as broker,
    ):
        ingestor = start_ingestor(make_settings(mqtt_url=broker.url, mqtt_window=10))
        await ingestor.until_ready()
        async with database.transaction():
            await database.execute("LOCK TABLE readings")  # stores nothing during the flood
            await publish_lines(broker.host, broker.port, "devices/1/stats", [_ARRAY] * FLOOD)
            await publish(broker.host, broker.port, *[Message(b'{"x":1,"y":2,"z":3}', "devices/2/stats")] * QUIET)

        async def accounted() -> int:
            return sum(await stored(database)) + (await dropped(broker))[0]

        assert await eventually(accounted, lambda count: count >= FLOOD + QUIET, 60) == FLOOD + QUIET
        count, finding = await dropped(broker)
        assert (count > 0) is some_are_dropped
        assert (await stored(database))[1] == (0 if some_are_dropped else QUIET)
        if finding is not None:
            assert finding.severity is Severity.WARNING
            assert "faster than its messages are stored" in finding.text
            explained = (explain(line, broker.data) for line in broker.log.read_text().splitlines())
            texts = [one.text for one in explained if one is not None]
            assert any("acknowledges new messages of devices and drops them" in text for text in texts)
        await ingestor.end()
