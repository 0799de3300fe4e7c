"""Another client takes the ingestor's client id, and takes it back after each reconnect of the ingestor."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from shared.settings import Settings
from tests.conftest import Broker, Database
from tests.faults.stream import add_devices
from tests.ingestion import IngestorProcess
from tests.publisher import Message, publish
from tests.waiting import eventually

Make = Callable[..., Settings]
Start = Callable[..., IngestorProcess]
READING = Message(b'{"x":1,"y":2,"z":3}')


@contextmanager
def fighting(broker: Broker, client_id: str) -> Iterator[None]:
    """A client that reconnects a second after each disconnection."""
    client = Client(CallbackAPIVersion.VERSION2, client_id, protocol=MQTTProtocolVersion.MQTTv5)
    client.reconnect_delay_set(1, 1)
    client.connect(broker.host, broker.port, clean_start=False)
    client.loop_start()
    try:
        yield
    finally:
        client.disconnect()
        client.loop_stop()


def pauses(ingestor: IngestorProcess) -> list[float]:
    """Return its pauses, from each log line about the lost session."""
    entries = [json.loads(line) for line in ingestor.logged.splitlines() if line.startswith("{")]
    return [one["retry_in_s"] for one in entries if "another client" in one.get("error", "")]


async def test_a_client_that_competes_for_the_client_id_is_named_and_the_ingestor_pauses(
    make_settings: Make, broker: Broker, database: Database, start_ingestor: Start
) -> None:
    """The ingestor pauses, its readiness names the client, and it stores readings again when the client is gone."""
    await add_devices(database)
    settings = make_settings(log_format="json")
    ingestor = start_ingestor(settings)
    await ingestor.until_ready()
    with fighting(broker, settings.mqtt_client_id):

        async def paused() -> list[float]:
            assert ingestor.process.poll() is None, ingestor.logged
            return pauses(ingestor)

        assert (await eventually(paused, bool, 60))[0] >= 2
        said = (await ingestor.why_not_ready())["broker"]
    assert f"the client id '{settings.mqtt_client_id}'" in said
    assert "It is not an ingestor of this database" in said
    assert f'as "New client connected from ADDRESS as {settings.mqtt_client_id}"' in said

    async def stored() -> int:
        await publish(broker.host, broker.port, READING)
        (row,) = await (await database.execute("SELECT count(*) FROM readings")).fetchall()
        return int(row[0])

    await eventually(stored, bool, 60)
    code, _ = await ingestor.end()
    assert code == 0
