"""Authentication of a broker's clients: responses of one API process in a second of its CPU time.

`mqtt_load` sends the requests. The database and the load generator share the other cores, so wall time says less.
"""

from collections.abc import Iterator
from functools import partial
from statistics import median

import psycopg

from deploy.local.postgres import EmbeddedPostgres
from shared.access.credentials import digest
from tests.benchmarks import mqtt_load
from tests.benchmarks.http import serving
from tests.benchmarks.mqtt_load import BROKER_SECRET, DEVICES, NONCE
from tests.benchmarks.pairs import PAIRS, Ratio, rounded, target, warmed
from tests.command import argv
from tests.ports import free_port

WANTED = 3000
"""Target in responses a second of one core."""
_DEVICES = """
    INSERT INTO devices (id, key, name) OVERRIDING SYSTEM VALUE SELECT n, n, n FROM generate_series(%s::int, %s) n
    ON CONFLICT DO NOTHING
"""
_TOKENS = (
    "INSERT INTO device_tokens (device_id, hash, nonce, connected) VALUES (%s, %s, %s, true) ON CONFLICT DO NOTHING"
)


def measure(postgres: EmbeddedPostgres) -> Iterator[Ratio | str]:
    """Measure responses a second of CPU time, each for another device."""
    with psycopg.connect(postgres.url, autocommit=True) as database, database.cursor() as cursor:
        database.execute(_DEVICES, (DEVICES[0], DEVICES[-1]))
        cursor.executemany(_TOKENS, [(device, digest(mqtt_load.token(device)), NONCE) for device in DEVICES])
    port = free_port()
    settings = {"database_url": postgres.url, "http_port": port, "log_level": "warning"}
    with serving(port, argv("serve"), "/health/ready", mqtt_auth_secret=BROKER_SECRET, **settings) as service:
        sides = [partial(service.asked, name, "tests.benchmarks.mqtt_load") for name in mqtt_load.REQUESTS]
        measured = warmed(*sides)
    for name in mqtt_load.REQUESTS:
        rates = [1e6 / cpu_us for cpu_us in service.cpu_us[name][-PAIRS:]]
        yield Ratio(f"POST /mqtt/{name}, a second of CPU", "the target", "/s", rates, target(WANTED), ">= 1")
    each = (f"{name} {rounded(median(rates))}" for name, rates in zip(mqtt_load.REQUESTS, measured, strict=True))
    yield f"Answers per second of real time, with load generator and database on the same machine: {', '.join(each)}."
