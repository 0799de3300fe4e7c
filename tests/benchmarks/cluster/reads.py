"""Reads over HTTP of up to a million readings, of which some are not sealed, and what sealing costs."""

import asyncio
import http.client
import socket
import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial

import msgspec

from query_api.statistics.blocks.sealing.announcing import announce, wait_for_writers
from query_api.statistics.blocks.sealing.merging import merge
from query_api.statistics.blocks.sealing.sealing import seal_step
from shared.postgres.connections import Connection, connect
from shared.postgres.distribution import TABLES
from shared.readings.model import SECOND
from tests.benchmarks import exports
from tests.benchmarks.cluster.databases import Databases, ask_where_stored
from tests.benchmarks.cluster.processors import Nodes
from tests.benchmarks.http import serving
from tests.benchmarks.pairs import Finding, Ratio, rounded, warmed
from tests.command import argv
from tests.ports import free_port
from tests.roles import url_as

LARGE, LARGE_READINGS = 2_000_000, 300_000
HALF, MOST, SMALL_READINGS = range(2_000_001, 2_000_101), range(2_000_101, 2_000_201), 10_000
"""A device with 300,000 readings, and two hundred with 10,000 each, a second apart. The first half of the readings of
LARGE and HALF is sealed, and of MOST all but UNSEALED, as workers leave it: they seal within minutes."""
UNSEALED = 500
FIRST = 1_767_225_600 * SECOND  # 2026-01-01
TIMES = 5
"""Requests of a measurement, which is their median."""
WANTED = "<= 1.5"
_ADD_DEVICES = "INSERT INTO devices (id, key, name) SELECT n, 'read-' || n, 'read' FROM generate_series(%s::int, %s) n"
_MONTH = "SELECT ensure_readings_partition(to_timestamp(%s))"
_FILL = """
    INSERT INTO readings (device_id, recorded_at, received_at, x, y, z)
    SELECT device, to_timestamp(%s + n), now(),
           n::bigint * 7919 %% 10007 / 11.0, round((100 * sin(n))::numeric, 2), n %% 7
    FROM generate_series(%s::int, %s) AS device, generate_series(0, %s - 1) AS n
"""
_EXTENTS = "SELECT find_device_extents()"
_ENROL = "INSERT INTO sealed_devices (device_id) SELECT n FROM generate_series(%s::int, %s) n"
_SIZE = r"""
    SELECT coalesce(sum(pg_total_relation_size(oid)), 0)::float8
    FROM pg_class WHERE relkind = 'r' AND relname ~ '^(blocks|block_values|block_columns)(_\d+)?$'
"""
_EXPORT = f"/stats/{LARGE}.csv"
_VACUUM = f"VACUUM (ANALYZE) {', '.join(TABLES)}, devices, device_extents, sealed_devices"


class Sealing(msgspec.Struct, frozen=True):
    """What sealing a reading costs: µs of CPU time of the worker, of the coordinator and of the nodes; bytes."""

    worker: float
    coordinator: float
    nodes: float
    size: float


def measure(given: Databases, nodes: Nodes, found: list[Sealing]) -> Iterator[Finding]:
    """Measure milliseconds of requests. `found` gets the costs of sealing on the cluster."""
    ours, peer = (asyncio.run(_filled(url, nodes)) for url in (given.distributed, given.plain))
    found.append(ours)
    for where, costs in (("on the cluster", ours), ("on one PostgreSQL", peer)):
        yield (
            f"sealing, a reading {where}: {rounded(costs.worker)} µs of the worker, {rounded(costs.coordinator)} µs of "
            f"the coordinator, {rounded(costs.nodes)} µs of the nodes, {rounded(costs.size)} bytes of blocks"
        )
    with ExitStack() as stack:
        ports = [stack.enter_context(_api(url)) for url in (given.distributed, given.plain)]
        for title, path, wanted in READS:
            assert _is_same(path, ports), f"the answers to {path} differ"
            took = warmed(*(partial(_took, port, path) for port in ports))
            yield Ratio(f"{title}, over HTTP", "one PostgreSQL", "ms", *took, wanted)
        for title, read in (("first row", _first_row), ("whole", _whole)):
            took = warmed(*(partial(read, port) for port in ports))
            yield Ratio(f"CSV of {LARGE_READINGS:,} readings, {title}", "one PostgreSQL", "ms", *took)


def _together(devices: range) -> str:
    return "/stats/analysis?" + "&".join(f"device_id={device}" for device in devices)


_OF_ALL = f"{len(HALF) * SMALL_READINGS:,} readings"
READS = (
    (f"analysis of one device, {LARGE_READINGS:,} readings, half sealed", f"/stats/analysis/{LARGE}", WANTED),
    (f"analysis of one device, {SMALL_READINGS:,} readings, half sealed", f"/stats/analysis/{HALF[0]}", WANTED),
    (
        f"analysis of one device, {SMALL_READINGS:,} readings, {UNSEALED} not sealed",
        f"/stats/analysis/{MOST[0]}",
        WANTED,
    ),
    (f"analysis of 100 devices together, {_OF_ALL}, half sealed", _together(HALF), WANTED),
    (f"analysis of 100 devices together, {_OF_ALL}, {UNSEALED} of each not sealed", _together(MOST), WANTED),
    ("buckets of an hour", f"/stats/{LARGE}/buckets?interval=PT1H&limit=1000", ""),
    ("series of 1,000 points", f"/stats/{LARGE}/series?points=1000", ""),
    ("page of 1,000 readings", f"/stats/{LARGE}?limit=1000", ""),
    ("latest reading", f"/stats/{LARGE}/latest", ""),
    ("list of 100 devices", "/devices?limit=100&search=read", ""),
)
_WITH_IDS = {f"/stats/{LARGE}?limit=1000", f"/stats/{LARGE}/latest", "/devices?limit=100&search=read"}
"""Answers with ids of readings or times of receipt, which differ between two databases."""


# The readings.


async def _filled(url: str, nodes: Nodes) -> Sealing:
    async with await connect(url, "bench") as connection:
        ends = LARGE, MOST[-1]
        await connection.execute(_ADD_DEVICES, ends)
        await connection.execute(_MONTH, (FIRST // SECOND,))
        for first, last, count in ((LARGE, LARGE, LARGE_READINGS), (HALF[0], MOST[-1], SMALL_READINGS)):
            await connection.execute(_FILL, (FIRST // SECOND, first, last, count))
        await connection.execute(_EXTENTS)
        await connection.execute(_ENROL, ends)
        sealing = await _sealed(url, connection, nodes)
        await connection.execute(_VACUUM.encode())
    return sealing


async def _sealed(url: str, connection: Connection, nodes: Nodes) -> Sealing:
    """Seal readings of each device, as the worker does."""
    sealed = {LARGE: LARGE_READINGS // 2, **dict.fromkeys(HALF, SMALL_READINGS // 2)}
    sealed |= dict.fromkeys(MOST, SMALL_READINGS - UNSEALED)
    until = {device: FIRST + count * SECOND for device, count in sealed.items()}
    before, began, total = nodes.cpu_s(), time.process_time(), 0
    assert await announce(connection, until) == set(until)
    await wait_for_writers(connection)
    for device, moment in until.items():
        is_done = False
        while not is_done:
            step = await seal_step(connection, device, moment)
            await merge(connection, device)
            total, is_done = total + step.readings, step.is_done
    worker = time.process_time() - began
    coordinator, others = (now - then for now, then in zip(nodes.cpu_s(), before, strict=True))
    assert total == sum(sealed.values())
    return Sealing(*(cpu * 1e6 / total for cpu in (worker, coordinator, others)), _size(url) / total)


def _size(url: str) -> float:
    """Return the bytes of the blocks, on all nodes that have them."""
    return sum(one[0] for one in ask_where_stored(url, _SIZE))


# The requests.


@contextmanager
def _api(url: str) -> Iterator[int]:
    """Run an API process for the block, and return its port."""
    port = free_port()
    settings = {"database_url": url_as(url, "api"), "http_port": port, "log_level": "warning"}
    with serving(port, argv("serve"), "/health/ready", **settings):
        yield port


def _is_same(path: str, ports: Sequence[int]) -> bool:
    """Return whether both sides answer alike. Ids of readings and times of receipt differ between two databases."""
    ours, theirs = (msgspec.json.decode(_body(port, path)) for port in ports)
    return len(ours) == len(theirs) and (path in _WITH_IDS or ours == theirs)


def _took(port: int, path: str) -> float:
    """Return the median of the milliseconds of a request, on one connection."""
    connection = http.client.HTTPConnection("127.0.0.1", port)
    taken = []
    for _ in range(TIMES):
        began = time.perf_counter()
        _get(connection, path)
        taken.append((time.perf_counter() - began) * 1_000)
    connection.close()
    return statistics.median(taken)


def _body(port: int, path: str) -> bytes:
    connection = http.client.HTTPConnection("127.0.0.1", port)
    try:
        return _get(connection, path)
    finally:
        connection.close()


def _get(connection: http.client.HTTPConnection, path: str) -> bytes:
    connection.request("GET", path)
    response = connection.getresponse()
    body = response.read()
    assert response.status == 200, body
    return body


def _first_row(port: int) -> float:
    """Return the milliseconds until the first bytes of an export."""
    began = time.perf_counter()
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(f"GET {_EXPORT} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n".encode())
        assert connection.recv(1).startswith(b"H")
        return (time.perf_counter() - began) * 1_000


def _whole(port: int) -> float:
    return exports.read(port, _EXPORT) * 1_000
