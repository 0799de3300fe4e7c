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
            *ours, peer = warmed(
                *(partial(read, port, f"/stats/{DEVICE}.{name}") for name in names),
                partial(copy, postgres, statement(DEVICE)),
            )
        clear(database)
    for name, took in zip(names, ours, strict=True):
        wanted = WANTED.get(name, OTHERS_WANTED)
        yield Ratio(f"{READINGS:,} readings as {name}, over HTTP", "psql COPY … (FORMAT csv)", "s", took, peer, wanted)


def read(port: int, path: str) -> float:
    """Return the seconds of the response, which is read from a socket and dropped."""
    began = time.monotonic()
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n".encode())
        buffer, first, last = bytearray(_BUFFER_BYTES), b"", b""
        while size := connection.recv_into(buffer):
            first = first or bytes(buffer[:size])
            last = (last + bytes(buffer[max(0, size - len(_END)) : size]))[-len(_END) :]
    assert first.startswith(b"HTTP/1.1 200 "), first[:200]
    assert last == _END or b"content-length" in first.lower(), "the response ended early"
    return time.monotonic() - began


def statement(device_id: int) -> str:
    """Return the COPY of the columns of an export as plain CSV."""
    return f"""
        COPY (SELECT id, device_id, x, y, z, recorded_at FROM readings WHERE device_id = {device_id}
              ORDER BY recorded_at, x, y, z) TO STDOUT (FORMAT csv)
    """  # noqa: S608  # a number


def copy(postgres: EmbeddedPostgres, statement: str) -> float:
    """Return the seconds of `psql COPY` to /dev/null, with the plan of our export, which has no sort."""
    program = Path(postgres.program.argv[0]).with_name("psql")
    began = time.monotonic()
    command = [str(program), "-X", "-q", "-d", postgres.url, "-c", "SET enable_sort = off", "-c", statement]
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    return time.monotonic() - began
