"""`GET /devices` over HTTP, by pages, by search and in orders, against plain SQL for the same devices."""

import asyncio
import time
from collections.abc import Callable, Iterator

import httpx
import psycopg

from query_api.worker.maintenance.activity import ActivityRound
from shared.postgres.connections import connect
from tests.benchmarks.http import serving
from tests.benchmarks.pairs import Finding, Ratio, warmed
from tests.benchmarks.scale.data import DEVICES
from tests.command import argv
from tests.ports import free_port

PAGES = (100, 1_000, 10_000)
# Each device of the page with its latest reading and its number of readings, up to the bound of the exact count.
_PAGE = """
    SELECT device.id, key, name, created_at, counted.count, latest.*
    FROM (SELECT * FROM devices ORDER BY id LIMIT %(limit)s) AS device
    LEFT JOIN device_extents ON device_id = device.id
    CROSS JOIN LATERAL (
        SELECT count(*) FROM (SELECT FROM readings WHERE device_id = device.id LIMIT 1001) AS few
    ) AS counted
    CROSS JOIN LATERAL (
        SELECT recorded_at, x, y, z FROM readings
        WHERE device_id = device.id AND recorded_at >= starts_at AND recorded_at < ends_at
        ORDER BY recorded_at DESC LIMIT 1
    ) AS latest
"""
_SEARCH = """
    SELECT id, key, name FROM devices
    WHERE strpos(lower(name), %(text)s) > 0 OR strpos(lower(key), %(text)s) > 0 ORDER BY id LIMIT 100
"""
ORDERS = ({"order": "-last_seen"}, {"order": "rate", "state": "live"}, {"order": "name", "state": ["late", "silent"]})
# All readings are older than a month, so every device is silent. These are some hours of an installation.
_MIX = """
    UPDATE device_activity SET state = device_id % 3, rate = device_id % 1000 / 10.0,
                               last_at = now() - device_id % 100000 * interval '1 second'
"""


def measure(url: str) -> Iterator[Finding]:
    """Measure milliseconds."""
    yield asyncio.run(_rounds(url))
    port = free_port()
    settings = {"database_url": url, "http_port": port, "log_level": "warning"}
    with (
        serving(port, argv("serve"), "/health/ready", **settings),
        httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as api,
        psycopg.connect(url, autocommit=True) as database,
    ):
        for limit in PAGES:
            ours, peer = warmed(
                lambda limit=limit: _timed(lambda: api.get("/devices", params={"limit": limit}).raise_for_status()),  # type: ignore[misc]
                lambda limit=limit: _timed(lambda: database.execute(_PAGE, {"limit": limit}).fetchall()),  # type: ignore[misc]
            )
            yield Ratio(f"a page of {limit:,} of {DEVICES:,} devices", "the same in plain SQL", "ms", ours, peer)
        for parameters in ORDERS:
            ours, peer = warmed(
                lambda given=parameters: _timed(lambda: api.get("/devices", params=given).raise_for_status()),  # type: ignore[misc]
                lambda: _timed(lambda: api.get("/devices").raise_for_status()),
            )
            what = ", ".join(f"{name} {value}" for name, value in parameters.items())
            yield Ratio(f"a page of {DEVICES:,} devices, {what}", "by id, of all", "ms", ours, peer)
        for what, text in {"one": f"scale-{DEVICES}", "none": "no device has this", "two letters": "qq"}.items():
            ours, peer = warmed(
                lambda text=text: _timed(lambda: api.get("/devices", params={"search": text}).raise_for_status()),  # type: ignore[misc]
                lambda text=text: _timed(lambda: database.execute(_SEARCH, {"text": text}).fetchall()),  # type: ignore[misc]
            )
            yield Ratio(f"a search of {DEVICES:,} devices, {what}", "a scan by SQL", "ms", ours, peer, "<= 1")


def _timed(ask: Callable[[], object]) -> float:
    began = time.perf_counter()
    ask()
    return (time.perf_counter() - began) * 1e3


async def _rounds(url: str) -> str:
    """Keep the activity of all devices twice, without rests. Return how long it took."""
    worker, seconds = ActivityRound(share=1.0), []
    async with await connect(url, "benchmark") as database:
        for _ in range(2):
            began = time.perf_counter()
            await worker.keep(database)
            seconds.append(time.perf_counter() - began)
        await database.execute(_MIX)
        await database.execute("VACUUM ANALYZE device_activity")
    return (
        f"A round of the worker over {DEVICES:,} devices: {seconds[0]:.1f} s of work if all change, "
        f"{seconds[1]:.1f} s if none does."
    )
