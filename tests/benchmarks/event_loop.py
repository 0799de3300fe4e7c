"""How long a request holds the event loop at most, and so all other requests: each endpoint at its greatest size.

The time is CPU time of the event loop's thread, as the clock also counts other programs of a busy machine.

Then readings a second of full arrays over many connections, against one `psql COPY` of the same readings.
`held_loop` is the service, `bulk_load` sends the arrays.
"""

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import msgspec
import psutil
import psycopg

from deploy.local.postgres import EmbeddedPostgres
from query_api.analyses.immediate import MAX_DEVICES as MAX_ANALYSED
from query_api.devices.registration import MAX_DEVICES
from query_api.readings.plots.downsampling import MAX_POINTS
from query_api.web.requests.paging import MAX_LIMIT
from shared.readings.rules import MAX_READINGS
from tests.benchmarks import bulk_load
from tests.benchmarks.pairs import PAIRS, Finding, Ratio, alternate, target
from tests.benchmarks.servers import clear
from tests.command import environment
from tests.ports import free_port
from tests.waiting import HANG_S

HELD_MS = 20.0
"""The target: no request holds others for longer."""
BULK_READINGS_S = 60_000.0
BULK_S = 8
DEVICE, DEVICES = 3_000_000, 20_000
HOURS = 11_000
A_HOUR = 10
BEGINS = datetime(2025, 1, 1, tzinfo=UTC)
_SETTLED_S = 0.03
"""Time after a response in which the service frees its memory."""

_FILL = """
    INSERT INTO devices (id, key, name)
    SELECT n, 'held-' || n, 'Meter ' || n FROM generate_series(%(device)s::bigint, %(last)s) AS n;
    SELECT ensure_readings_partition(month)
    FROM generate_series(%(begins)s, %(begins)s + %(hours)s * interval '1 hour', '1 month') AS month;
    INSERT INTO readings (device_id, recorded_at, received_at, x, y, z)
    SELECT %(device)s, %(begins)s + n * interval '1 hour' / %(each)s, now(), 2000 * random() - 1000, n %% 900, random()
    FROM generate_series(0, %(hours)s::bigint * %(each)s - 1) AS n;
    INSERT INTO readings (device_id, recorded_at, received_at, x, y, z)
    SELECT n, %(begins)s + m * interval '1 day', now(), random(), random(), random()
    FROM generate_series(%(device)s + 1, %(last)s) AS n, generate_series(0, 2) AS m;
    INSERT INTO device_extents (device_id, starts_at, ends_at)
    SELECT n, %(begins)s, %(begins)s + interval '24 months' FROM generate_series(%(device)s, %(last)s) AS n;
"""


class _Ask(msgspec.Struct, frozen=True):
    """A request with its name in the table."""

    name: str
    method: str
    path: str
    body: bytes = b""
    statuses: Sequence[int] = (200,)


def measure(postgres: EmbeddedPostgres) -> Iterator[Finding]:
    """Measure milliseconds, and readings a second."""
    with psycopg.connect(postgres.url, autocommit=True) as database:
        clear(database)
        _fill(database)
        port = free_port()
        with (
            _serving(port, postgres.url) as service,
            httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=HANG_S) as client,
        ):
            _await(client)
            for ask in _asks():
                yield from _holds(service, client, ask)
            yield from _bulk(postgres, port, service.pid, database)
        clear(database)


def _holds(service: "subprocess.Popen[str]", client: httpx.Client, ask: _Ask) -> Iterator[Finding]:
    _hold(service, client, ask)
    holds = [_hold(service, client, ask) for _ in range(PAIRS)]
    wall, cpu = zip(*holds, strict=True)
    yield Ratio(f"the event loop held: {ask.name}", f"{HELD_MS:g} ms", "ms of CPU", cpu, target(HELD_MS), "<= 1")
    yield f"event-loop: {ask.name}: {statistics.median(wall):.0f} ms by the clock."


def _fill(database: psycopg.Connection) -> None:
    values = {"device": DEVICE, "last": DEVICE + DEVICES - 1, "begins": BEGINS, "hours": HOURS, "each": A_HOUR}
    for statement in _FILL.split(";\n"):
        if statement.strip():
            database.execute(statement.encode(), values)
    database.execute("VACUUM ANALYZE")


def _asks() -> list[_Ask]:
    times = [(BEGINS + n * timedelta(seconds=1.25)).isoformat() for n in range(MAX_READINGS)]
    good = [
        {"device_id": DEVICE + 1, "x": n / 17, "y": -n / 23, "z": 3.125, "timestamp": at} for n, at in enumerate(times)
    ]
    each = [{**one, "device_id": DEVICE + n} for n, one in enumerate(good)]
    wrong = [{**one, "x": "1"} for one in good]
    early = [{**one, "timestamp": 7} for one in good]
    unknown = [{**one, "device_id": 1 + n * 10**9} for n, one in enumerate(good, 1)]
    lists = b"[" + b"[]," * 1_300_000 + b"[]]"
    deep = b'{"device_id":1,"other":' + lists + b"}"
    half = b'[{"device_id":1,"other":"' + b"x" * 4_000_000 + rb'\ud800"}]'
    devices = [{"name": f"New {n}"} for n in range(MAX_DEVICES)]
    several = "&".join(f"device_id={DEVICE + n}" for n in range(MAX_ANALYSED))
    ended = (BEGINS + timedelta(hours=HOURS)).date().isoformat()
    stats = f"/stats/{DEVICE}"
    return [
        _Ask(f"POST /stats, {MAX_READINGS:,} readings of a device", "POST", "/stats", _json(good), (200, 201)),
        _Ask(
            f"POST /stats, {MAX_READINGS:,} readings, each of another device", "POST", "/stats", _json(each), (200, 201)
        ),
        _Ask("- each with a wrong value", "POST", "/stats", _json(wrong), (422,)),
        _Ask("- each with a wrong time", "POST", "/stats", _json(early), (422,)),
        _Ask("- each of an unknown device", "POST", "/stats", _json(unknown), (400,)),
        _Ask("- 4 MB of empty arrays", "POST", "/stats", lists, (422,)),
        _Ask("- 4 MB of empty arrays in an unknown field", "POST", "/stats", deep, (422,)),
        _Ask("- 4 MB with half of a character", "POST", "/stats", half, (400,)),
        _Ask(f"POST /devices, {MAX_DEVICES:,} devices", "POST", "/devices", _json(devices), (201,)),
        _Ask(f"GET /devices, {MAX_LIMIT:,} of them", "GET", f"/devices?limit={MAX_LIMIT}"),
        _Ask(f"GET /devices, a search that finds {MAX_LIMIT:,}", "GET", f"/devices?search=meter&limit={MAX_LIMIT}"),
        _Ask(f"a page of {MAX_LIMIT:,} readings", "GET", f"{stats}?limit={MAX_LIMIT}"),
        _Ask(
            f"{MAX_LIMIT:,} buckets of an hour", "GET", f"{stats}/buckets?interval=PT1H&limit={MAX_LIMIT}&end={ended}"
        ),
        _Ask(
            f"{MAX_LIMIT:,} buckets of a minute", "GET", f"{stats}/buckets?interval=PT1M&limit={MAX_LIMIT}&end={ended}"
        ),
        _Ask(f"a series of {MAX_POINTS:,} points", "GET", f"{stats}/series?points={MAX_POINTS}"),
        _Ask("a histogram of 1,000 bins", "GET", f"{stats}/histogram?bins=1000"),
        _Ask(f"an analysis of each of {MAX_ANALYSED:,} devices", "GET", f"/stats/analysis?group_by=device&{several}"),
        _Ask("110,000 readings as CSV", "GET", f"{stats}.csv"),
        _Ask("- as NDJSON, by HEAD", "HEAD", f"{stats}.ndjson"),
        _Ask("- as Parquet", "GET", f"{stats}.parquet"),
        _Ask("the OpenAPI document", "GET", "/openapi.json"),
        _Ask("its page", "GET", "/docs"),
        _Ask("the metrics", "GET", "/metrics"),
    ]


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


@contextmanager
def _serving(port: int, url: str) -> Iterator["subprocess.Popen[str]"]:
    settings = environment(database_url=url, http_port=port, log_level="warning")
    command = [sys.executable, "-m", "tests.benchmarks.held_loop"]
    with subprocess.Popen(command, env=settings, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.terminate()


def _await(client: httpx.Client) -> None:
    ends = time.monotonic() + HANG_S
    while time.monotonic() < ends:
        try:
            if client.get("/health/ready").is_success:
                return
        except httpx.TransportError:
            time.sleep(0.05)
    raise AssertionError("the service does not respond")


def _hold(service: "subprocess.Popen[str]", client: httpx.Client, ask: _Ask) -> tuple[float, float]:
    """Return for how many milliseconds the request holds the event loop at most: by the clock, and of CPU."""
    time.sleep(_SETTLED_S)
    _longest(service)
    answer = client.request(
        ask.method, ask.path, content=ask.body or None, headers={"content-type": "application/json"}
    )
    assert answer.status_code in ask.statuses, (ask.name, answer.status_code, answer.text[:500])
    time.sleep(_SETTLED_S)
    return _longest(service)


def _longest(service: "subprocess.Popen[str]") -> tuple[float, float]:
    assert service.stdin is not None
    assert service.stdout is not None
    service.stdin.write("\n")
    service.stdin.flush()
    wall, cpu = service.stdout.readline().split()
    return float(wall), float(cpu)


def _bulk(postgres: EmbeddedPostgres, port: int, service: int, database: psycopg.Connection) -> Iterator[Finding]:
    loaded: list[bulk_load.Loaded] = []
    costs: list[tuple[float, float]] = []

    def ours() -> float:
        clear(database)
        before = _cpu_s(service, database)
        command = [sys.executable, "-m", "tests.benchmarks.bulk_load", str(port), str(BULK_S), str(DEVICE)]
        said = subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout
        loaded.append(msgspec.json.decode(said, type=bulk_load.Loaded))
        stored = MAX_READINGS * (loaded[-1].requests - loaded[-1].refused)
        took = zip(_cpu_s(service, database), before, strict=True)
        costs.append(tuple((after - began) / stored * 1e6 for after, began in took))
        return loaded[-1].readings_s

    def peer() -> float:
        database.execute("TRUNCATE peer")
        database.execute("CHECKPOINT")
        return _copied(postgres)

    rates, peers = alternate(ours, peer)
    name = f"POST /stats of {MAX_READINGS:,} over {bulk_load.CONNECTIONS} connections"
    yield Ratio(name, f"{BULK_READINGS_S:,.0f} readings/s", "readings/s", rates, target(BULK_READINGS_S), ">= 1")
    yield Ratio(name, "psql COPY", "readings/s", rates, peers)
    own, writers = (statistics.median(side) for side in zip(*costs, strict=True))
    yield (
        f"event-loop: CPU of one of these readings, in us: the API's process {own:.1f}, its two connections to "
        f"PostgreSQL together {writers:.1f}."
    )
    refused, least = sum(one.refused for one in loaded), min(one.least_retry_after for one in loaded)
    yield (
        f"event-loop: {refused:,} of {sum(one.requests for one in loaded):,} such requests were refused, with a "
        f"Retry-After of at least {least} s."
    )


_WRITERS = "SELECT pid FROM pg_stat_activity WHERE application_name = 'devicestat api writer'"


def _cpu_s(service: int, database: psycopg.Connection) -> tuple[float, float]:
    """Return the CPU time of the service, and of its connections that store readings."""
    writers = [pid for (pid,) in database.execute(_WRITERS)]
    own, *others = (sum(psutil.Process(pid).cpu_times()[:2]) for pid in (service, *writers))
    return own, sum(others)


def _copied(postgres: EmbeddedPostgres) -> float:
    """Return readings a second of one psql that copies as many readings as CSV."""
    program = Path(postgres.program.argv[0]).with_name("psql")
    count = int(BULK_READINGS_S * BULK_S / 2)
    lines = bulk_load.lines(DEVICE, count)
    command = [str(program), "-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", postgres.url, "-c", _COPY]
    began = time.monotonic()
    subprocess.run(command, input=lines, check=True)
    return count / (time.monotonic() - began)


_COPY = "COPY peer (device_id, recorded_at, received_at, x, y, z) FROM STDIN (FORMAT csv)"
