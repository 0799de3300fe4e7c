"""From a PUBLISH to the row that others see, at a steady rate: against what the design allows."""

import asyncio
import statistics
import time
from collections.abc import Iterator

import psycopg
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from deploy.postgres import EmbeddedPostgres
from shared.settings import Settings
from tests.benchmarks.ingestion import broker
from tests.benchmarks.pairs import PAIRS, Ratio
from tests.ingestion import IngestorProcess
from tests.ports import free_port

RATE = 100
SECONDS = 5
ALLOWED_MS = 150.0
_SEEN = "SELECT x FROM readings WHERE device_id = 1 AND x >= %s"


def measure(postgres: EmbeddedPostgres) -> Iterator[Ratio]:
    """p50 and p99 in milliseconds, of several runs."""
    with broker() as mosquitto, psycopg.connect(postgres.url, autocommit=True) as database:
        settings = Settings(database_url=postgres.url, mqtt_url=mosquitto.url, ingestor_metrics_port=free_port())
        ingestor = IngestorProcess(settings)
        asyncio.run(ingestor.until_ready())
        client = Client(CallbackAPIVersion.VERSION2, protocol=MQTTProtocolVersion.MQTTv5)
        client.connect(mosquitto.host, mosquitto.port)
        client.loop_start()
        try:
            runs = [_delays_ms(client, database) for _ in range(PAIRS)]
        finally:
            client.disconnect()
            client.loop_stop()
            asyncio.run(ingestor.end())
    allowed = [ALLOWED_MS] * PAIRS
    yield Ratio(f"delay to the row, {RATE} msg/s, p50, against 150 ms", "ms", [_p(run, 50) for run in runs], allowed)
    yield Ratio(f"delay to the row, {RATE} msg/s, p99, against 150 ms", "ms", [_p(run, 99) for run in runs], allowed)


def _delays_ms(client: Client, database: psycopg.Connection) -> list[float]:
    """Publishes numbered readings, one each 1/RATE s, and looks for them in between."""
    database.execute("TRUNCATE readings")
    count, began = RATE * SECONDS, time.monotonic()
    published: list[float] = []
    delays: list[float] = []
    while len(delays) < count:
        now = time.monotonic()
        if len(published) < count and now >= began + len(published) / RATE:
            client.publish("devices/1/stats", b'{"x":%d,"y":0,"z":0}' % len(published), qos=1)
            published.append(now)
        rows = database.execute(_SEEN, (len(delays),)).fetchall()
        seen = time.monotonic()
        for (number,) in sorted(rows):
            assert number == len(delays), "each is seen once, in order"
            delays.append((seen - published[int(number)]) * 1000)
    return delays


def _p(delays: list[float], percent: int) -> float:
    return statistics.quantiles(delays, n=100)[percent - 1]
