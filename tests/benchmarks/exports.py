"""All readings of a device over HTTP, in each format, against one `psql COPY` of its columns as plain CSV.

EXPORTS_READINGS=1000000 sets the number of readings, by default 5,000,000.
"""

import os
import socket
import subprocess
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import psycopg

from deploy.local.postgres import EmbeddedPostgres
from query_api.readings.formats.negotiation import STREAMS
from tests.benchmarks.http import serving
from tests.benchmarks.pairs import Finding, Ratio, warmed
from tests.benchmarks.servers import clear
from tests.command import argv
from tests.ports import free_port

READINGS = int(os.environ.get("EXPORTS_READINGS", "5000000"))
DEVICE = 2_000_000
WANTED = {"csv": "<= 1.3"}
OTHERS_WANTED = "<= 1.5"
_BUFFER_BYTES = 1 << 20
_END = b"0\r\n\r\n"
"""The last chunk of a chunked response."""

_ADD_DEVICE = "INSERT INTO devices (id, key, name) VALUES (%s, 'exports', 'exports')"
_MONTHS = """
    SELECT ensure_readings_partition(month)
    FROM generate_series(timestamptz '2026-01-01 UTC', timestamptz '2026-01-01 UTC' + %s * interval '1 s', '1 month')
         AS month
"""
_FILL = """
    INSERT INTO readings (device_id, recorded_at, received_at, x, y, z)
    SELECT %s, timestamptz '2026-01-01 UTC' + n * interval '1 s', now(),
           2000 * random() - 1000, round((500 * sin(n / 1000.0))::numeric, 2), random()
    FROM generate_series(0, %s - 1) AS n
"""
_COPY = f"""
    COPY (SELECT id, device_id, x, y, z, recorded_at FROM readings WHERE device_id = {DEVICE}
          ORDER BY recorded_at, x, y, z) TO STDOUT (FORMAT csv)
"""  # noqa: S608  # a constant


def measure(postgres: EmbeddedPostgres) -> Iterator[Finding]:
    """Measure the seconds of an export."""
    with psycopg.connect(postgres.url, autocommit=True) as database:
        clear(database)
        database.execute(_ADD_DEVICE, (DEVICE,))
        database.execute(_MONTHS, (READINGS,))
        database.execute(_FILL, (DEVICE, READINGS))
        database.execute("SELECT find_device_extents()")
        database.execute("VACUUM ANALYZE readings")
        port = free_port()
        settings = {"database_url": postgres.url, "http_port": port, "log_level": "warning"}
        with serving(port, argv("serve"), "/health/ready", **settings):
            names = [form.name for form in STREAMS]
            *ours, peer = warmed(*(partial(_export, port, name) for name in names), partial(_psql, postgres))
        clear(database)
    for name, took in zip(names, ours, strict=True):
        wanted = WANTED.get(name, OTHERS_WANTED)
        yield Ratio(f"{READINGS:,} readings as {name}, over HTTP", "psql COPY … (FORMAT csv)", "s", took, peer, wanted)


def _export(port: int, name: str) -> float:
    began = time.monotonic()
    with socket.create_connection(("127.0.0.1", port)) as connection:
        request = f"GET /stats/{DEVICE}.{name} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"
        connection.sendall(request.encode())
        assert _last_bytes(connection) == _END
    return time.monotonic() - began


def _last_bytes(connection: socket.socket) -> bytes:
    buffer, last = bytearray(_BUFFER_BYTES), b""
    while size := connection.recv_into(buffer):
        last = (last + bytes(buffer[max(0, size - len(_END)) : size]))[-len(_END) :]
    return last


def _psql(postgres: EmbeddedPostgres) -> float:
    """Copy with the plan of our export, which has no sort."""
    program = Path(postgres.program.argv[0]).with_name("psql")
    began = time.monotonic()
    command = [str(program), "-X", "-q", "-d", postgres.url, "-c", "SET enable_sort = off", "-c", _COPY]
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    return time.monotonic() - began
