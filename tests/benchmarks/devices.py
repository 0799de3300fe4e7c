"""Many devices: time to register them in the database and on the broker, to disconnect one, to list and to search them.

The broker uses a password file. The peer is its dynamic security plugin, with equally many devices.
DEVICES_MANY=10000 sets the number of devices, by default 100,000.
"""

import asyncio
import os
import subprocess
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, suppress
from pathlib import Path

import httpx
import msgspec
import psutil
import psycopg

from deploy.doctor.broker_connection import connected
from deploy.local.postgres import EmbeddedPostgres
from query_api.devices.search import find
from shared.broker.device_credentials import all_credentials
from shared.broker.dynamic_security.devices import ByCommands
from shared.errors import BrokerError
from shared.postgres.connections import Connection, connect
from shared.settings import MqttAddress, Settings
from tests.benchmarks.http import serving
from tests.benchmarks.many_readings import publish_of_each
from tests.benchmarks.pairs import PAIRS, Finding, Ratio, target
from tests.benchmarks.servers import broker, directory, settings
from tests.closed_broker import SECRET, ClosedBroker
from tests.command import argv, environment
from tests.ingestion import IngestorProcess
from tests.password_file_broker import PasswordFileBroker
from tests.ports import free_port

MANY = int(os.environ.get("DEVICES_MANY", "100000"))
SINGLES = 100
REGISTER_S, CUT_OFF_S, PAGE_MS, SEARCH_MS = 600.0, 5.0, 50.0, 200.0
_POLL_S = 0.05
_WAITING = "SELECT count(*) FROM broker_outbox"
_SCAN = """
    SELECT id, key, name, created_at FROM devices
    WHERE strpos(lower(name), lower(%s)) > 0 OR strpos(lower(key), lower(%s)) > 0 ORDER BY id LIMIT 101
"""


def measure(postgres: EmbeddedPostgres) -> Iterator[Finding]:
    """Measure seconds and milliseconds, against dynamic security in the same run, and against targets."""
    with directory() as path, PasswordFileBroker(path) as server:
        port = free_port()
        given = server.settings(settings_of(postgres, port))
        with serving(port, argv("serve"), "/devices", **given_to(given)):
            yield from asyncio.run(_by_file(server, given))
    yield from asyncio.run(_by_commands(postgres))
    yield from asyncio.run(_ingestor(postgres))


def settings_of(postgres: EmbeddedPostgres, port: int) -> Settings:
    """Return settings of an API on the port."""
    return Settings(database_url=postgres.url, http_port=port, log_level="warning")


def given_to(given: Settings) -> dict[str, object]:
    """Return the settings that differ from the defaults, as arguments of a command."""
    unset = msgspec.structs.asdict(Settings())
    return {name: value for name, value in msgspec.structs.asdict(given).items() if value != unset[name]}


async def _by_file(server: PasswordFileBroker, given: Settings) -> list[Finding]:
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(server.watched())
        base = f"http://127.0.0.1:{given.http_port}"
        api = await stack.enter_async_context(httpx.AsyncClient(base_url=base, timeout=60))
        database = await stack.enter_async_context(await connect(given.database, "bench"))
        single = await _register_singly(api)
        began = time.perf_counter()
        longest = await _beside(api, _import(given, server.directory))
        imported_s = time.perf_counter() - began
        await _told(database)
        told_s = time.perf_counter() - began
        return [
            Ratio("devices imported", "POST /devices, one by one", "devices/s", [MANY / imported_s], [single]),
            Ratio(
                f"{MANY:,} devices imported and added at the broker", "10 minutes", "s", [told_s], [REGISTER_S], "<= 1"
            ),
            f"devices: GET /health/live of the same process took {longest * 1e3:.0f} ms at most during the import.",
            *await _cut_offs(server, api),
            *await _lists(api, database),
            await _synced(given),
        ]


async def _register_singly(api: httpx.AsyncClient) -> float:
    began = time.perf_counter()
    for number in range(SINGLES):
        (await api.post("/devices", json={"key": f"single-{number}", "name": "Single"})).raise_for_status()
    return SINGLES / (time.perf_counter() - began)


async def _import(given: Settings, where: Path) -> None:
    file = where / "devices.csv"
    lines = (f"many-{number},Meter {number}\n" for number in range(MANY))
    await asyncio.to_thread(file.write_text, "key,name\n" + "".join(lines))
    command = argv("devices", "import", file, "--tokens", where / "tokens.csv")
    process = await asyncio.create_subprocess_exec(
        *command, env=environment(http_port=given.http_port), stderr=asyncio.subprocess.DEVNULL
    )
    assert await process.wait() == 0


async def _beside(api: httpx.AsyncClient, work: Awaitable[None]) -> float:
    """Measure the longest response time of the API during the work, in seconds."""
    task, longest = asyncio.ensure_future(work), 0.0
    while not task.done():
        began = time.perf_counter()
        await api.get("/health/live")
        longest = max(longest, time.perf_counter() - began)
        await asyncio.sleep(0.005)
    await task
    return longest


async def _told(database: Connection) -> None:
    while True:
        row = await (await database.execute(_WAITING)).fetchone()
        if row == (0,):
            return
        await asyncio.sleep(_POLL_S)


async def _cut_offs(server: PasswordFileBroker, api: httpx.AsyncClient) -> list[Finding]:
    new, ended = [], []
    for number in range(PAIRS):
        began = time.perf_counter()
        made = (await api.post("/devices", json={"key": f"late-{number}", "name": "Late"})).json()
        address = server.as_device(made["key"], made["token"])
        await _let_in(address)
        new.append(time.perf_counter() - began)
        async with connected(address, "device") as device:
            began = time.perf_counter()
            (await api.delete(f"/devices/{made['id']}")).raise_for_status()
            with suppress(BrokerError):
                await device.message(60)
            ended.append(time.perf_counter() - began)
    return [
        Ratio(f"one more device, to its first login, with {MANY:,}", "5 s", "s", new, target(CUT_OFF_S), "<= 1"),
        Ratio(f"one deleted device, to its disconnection, with {MANY:,}", "5 s", "s", ended, target(CUT_OFF_S), "<= 1"),
    ]


async def _let_in(address: MqttAddress) -> None:
    while True:
        with suppress(BrokerError):
            async with connected(address, "device"):
                return
        await asyncio.sleep(_POLL_S)


async def _lists(api: httpx.AsyncClient, database: Connection) -> list[Finding]:
    pages = await _timed(lambda: api.get("/devices"))
    rare = await _timed(lambda: api.get("/devices", params={"search": f"y-{MANY - 1}"}))
    none = await _timed(lambda: api.get("/devices", params={"search": "no device has this"}))
    found = await _timed_pairs(
        lambda: find(database, f"y-{MANY - 1}", 0, 101), lambda: database.execute(_SCAN, (f"y-{MANY - 1}",) * 2)
    )
    return [
        Ratio(f"the query of a search for one of {MANY:,} devices", "a scan by SQL", "ms", *found, "< 1"),
        Ratio(f"the first page of {MANY:,} devices", "50 ms", "ms", pages, target(PAGE_MS), "<= 1"),
        Ratio(f"a search for one of {MANY:,} devices", "200 ms", "ms", rare, target(SEARCH_MS), "<= 1"),
        Ratio(f"a search for none of {MANY:,} devices", "200 ms", "ms", none, target(SEARCH_MS), "<= 1"),
    ]


async def _timed(ask: Callable[[], Awaitable[httpx.Response]]) -> list[float]:
    (await ask()).raise_for_status()
    return [await _milliseconds(ask) for _ in range(PAIRS)]


async def _timed_pairs(*sides: Callable[[], Awaitable[object]]) -> list[list[float]]:
    """Measure each side in turn, after once without recording."""
    rounds = [[await _milliseconds(side) for side in sides] for _ in range(PAIRS + 1)][1:]
    return [list(measured) for measured in zip(*rounds, strict=True)]


async def _milliseconds(ask: Callable[[], Awaitable[object]]) -> float:
    began = time.perf_counter()
    await ask()
    return (time.perf_counter() - began) * 1e3


async def _synced(given: Settings) -> str:
    began = time.perf_counter()
    process = subprocess.Popen(  # noqa: ASYNC220  # nothing else runs meanwhile
        argv("broker", "sync", "--dry-run"), env=environment(**given_to(given)), stdout=subprocess.DEVNULL
    )
    most = 0
    while process.poll() is None:
        with suppress(psutil.Error):
            most = max(most, psutil.Process(process.pid).memory_info().rss)
        await asyncio.sleep(_POLL_S)
    assert process.returncode == 0, "the password file differs from the database"
    return f"devices: `broker sync --dry-run` took {time.perf_counter() - began:.1f} s and {most / 1e6:.0f} MB."


async def _by_commands(postgres: EmbeddedPostgres) -> list[Finding]:
    """Measure the same on a broker with dynamic security and equally many devices."""
    async with await connect(postgres.url, "bench") as database:
        devices = [device async for device in all_credentials(database, SECRET)]
        with directory() as path, ClosedBroker(path, devices) as server:
            given = server.settings(settings_of(postgres, 0))
            took = []
            await database.execute("DELETE FROM devices WHERE key LIKE 'single-%'")
            numbers = [device.id for device in devices if device.key.startswith("single-")]
            form = given.mqtt_topic
            async with ByCommands(given.broker_admin, form, SECRET).open() as reconcile:
                for number in numbers[:PAIRS]:
                    began = time.perf_counter()
                    await reconcile(database, [number])
                    took.append(time.perf_counter() - began)
            held = psutil.Process(server.pid).memory_info().rss / 1e6
    mean = sum(took) / len(took)
    said = (
        f"devices: dynamic security with as many devices blocks the broker for {mean:.2f} s to delete one, and takes "
        f"{held:.0f} MB. To register {MANY:,} one by one would take {MANY * mean / 2 / 3600:.1f} hours."
    )
    return [said]


async def _stored(database: psycopg.Connection) -> None:
    while True:
        if database.execute("SELECT count(*) FROM readings").fetchone() == (MANY,):
            return
        await asyncio.sleep(_POLL_S)


async def _ingestor(postgres: EmbeddedPostgres) -> list[Finding]:
    """Measure an ingestor that has received a reading of each device."""
    with broker() as server, psycopg.connect(postgres.url, autocommit=True) as database:
        process = IngestorProcess(settings(postgres, server))
        try:
            began = time.perf_counter()
            await process.until_ready()
            ready_s = time.perf_counter() - began
            before = psutil.Process(process.process.pid).memory_info().rss / 1e6
            began = time.perf_counter()
            await publish_of_each(server.port, [f"devices/many-{number}/stats" for number in range(MANY)])
            await _stored(database)
            stored_s = time.perf_counter() - began
            after = psutil.Process(process.process.pid).memory_info().rss / 1e6
        finally:
            await process.end()
    said = (
        f"devices: an ingestor was ready after {ready_s:.1f} s, and stored a first reading of each of {MANY:,} devices "
        f"in {stored_s:.1f} s; its memory was {before:.0f} MB before and {after:.0f} MB after."
    )
    return [said]
