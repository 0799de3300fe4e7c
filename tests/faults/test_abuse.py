"""All abuse at once. A quiet device, a live reader and a schedule lose nothing, and get nothing twice."""

import asyncio
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from shared.access.credentials import Role
from shared.postgres.connections import Connection
from shared.settings import Settings
from tests import command, services
from tests.conftest import Broker
from tests.credentials import bearer, key
from tests.disclosure import gather
from tests.faketime import SteppingClock
from tests.faults.abusers import ARRAY, fighting, flooding, hoarding, stepping
from tests.faults.stream import Stream, add_devices, publishing
from tests.integration.test_hostile_settings import for_the_database
from tests.integration.test_live import events_of
from tests.roles import url_as
from tests.waiting import eventually

SECONDS = 600.0
QUIET_RATE = 5.0
"""Readings a second of the quiet device over MQTT."""
QUIET_POST_S = 0.5
"""Pause between two readings of the quiet device over HTTP."""
RESTART_S = 0.5
QUIET, FLOODER, OVER_HTTP = 1, 3, 4
_ADD = "INSERT INTO devices (id, key, name) VALUES (3, '3', 'flooder'), (4, '4', 'over HTTP') ON CONFLICT DO NOTHING"
FILLED = 1_000_000
"""Earlier readings of the flooding device, so that its analysis takes long from the beginning."""
_FILL = """
    INSERT INTO readings (device_id, recorded_at, received_at, x, y, z)
    SELECT 3, now() - n * interval '10 ms', now(), n %% 1000, 0, 0 FROM generate_series(1, %s) n
"""


class Daemon:
    """A devicestat service as a process, which is restarted when it ends."""

    def __init__(self, name: str, settings: Mapping[str, object], **variables: str) -> None:
        self.starts = 0
        self._name = name
        self._environment = {**command.environment(**settings), **variables}
        self.logged = ""
        """Its log, after it is stopped."""
        self._process: asyncio.subprocess.Process | None = None

    async def run(self) -> None:
        """Keep it running until cancelled; then stop it as a signal would."""
        with tempfile.TemporaryFile() as log:
            try:
                while True:
                    self._process = await asyncio.create_subprocess_exec(
                        *command.argv(self._name), env=self._environment, stderr=log
                    )
                    self.starts += 1
                    await self._process.wait()
                    await asyncio.sleep(RESTART_S)
            finally:
                await self._stop()
                log.seek(0)
                self.logged = log.read().decode()
                gather(f"the log of devicestat {self._name}", self.logged)

    async def _stop(self) -> None:
        if self._process is not None and self._process.returncode is None:
            self._process.terminate()
            await self._process.wait()


@asynccontextmanager
async def supervised(daemon: Daemon) -> AsyncIterator[Daemon]:
    task = asyncio.create_task(daemon.run(), name="supervisor under test")
    try:
        yield daemon
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


class Seen(msgspec.Struct):
    """Events of the live reader: numbers of readings, and gaps."""

    numbers: list[int] = []
    gaps: int = 0


@asynccontextmanager
async def reading_live(port: int, credential: str) -> AsyncIterator[Seen]:
    seen = Seen()
    task = asyncio.create_task(_read_live(port, credential, seen), name="live reader")
    try:
        yield seen
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def _read_live(port: int, credential: str, seen: Seen) -> None:
    async with (
        services.client_of(port) as api,
        api.stream("GET", f"/stats/{QUIET}/live", headers=bearer(credential)) as answer,
    ):
        assert answer.status_code == 200, await answer.aread()
        async for event in events_of(answer):
            if event.get("event") in {"gap", "dropped"}:
                seen.gaps += 1
            elif "data" in event:
                seen.numbers.append(number_of(event["data"]))
        raise AssertionError("the live stream ended")


def number_of(reading: Mapping[str, Any]) -> int:
    return round(reading["x"] * 1000) + 1_000_000 * round(reading["y"])


@asynccontextmanager
async def posting(port: int, token: str) -> AsyncIterator["Counter[int]"]:
    """The quiet device over HTTP, with numbered readings. Counts responses by status."""
    answers: Counter[int] = Counter()
    over = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(_post(port, token, answers, over), name="quiet device over HTTP")
        try:
            yield answers
        finally:
            over.set()


async def _post(port: int, token: str, answers: "Counter[int]", over: asyncio.Event) -> None:
    async with services.client_of(port) as api:
        while not over.is_set():
            reading = {"device_id": OVER_HTTP, "x": answers.total() / 1000, "y": 0, "z": 0}
            answer = await api.post("/stats", json=reading, headers=bearer(token))
            answers[answer.status_code] += 1
            with suppress(TimeoutError):
                async with asyncio.timeout(QUIET_POST_S):
                    await over.wait()


@pytest.mark.soak
async def test_the_quiet_ones_notice_nothing(
    make_settings: Callable[..., Settings],
    own_broker: Any,
    database: Connection,
    database_url: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    broker = Broker(own_broker.host, own_broker.port)
    for_the_database(database_url, monkeypatch)
    await add_devices(database)
    await database.execute(_ADD)
    await database.execute(_FILL, (FILLED,))
    await database.execute("SELECT find_device_extents()")
    administrator, hoarder, reader = [await key(database, role) for role in (Role.ADMIN, Role.ANALYST, Role.ANALYST)]
    settings = make_settings(auth="on")
    clock = SteppingClock(tmp_path)
    daemons = {name: Daemon(name, given(settings, role)) for name, role in SERVICES.items() if name != "work"}
    daemons["work"] = Daemon("work", given(settings, "worker"), **clock.environment)
    async with AsyncExitStack() as stack:
        for daemon in daemons.values():
            await stack.enter_async_context(supervised(daemon))
        await eventually(lambda: services.is_live(settings.http_port), bool)
        await eventually(lambda: services.is_ready(settings.ingestor_metrics_port), bool)
        async with services.client_of(settings.http_port) as api:
            token = await token_of(api, OVER_HTTP, administrator)
            schedule = await scheduled(api, reader)
        seen = await stack.enter_async_context(reading_live(settings.http_port, reader))
        answers = await stack.enter_async_context(posting(settings.http_port, token))
        stream = await stack.enter_async_context(publishing(broker, rate=QUIET_RATE))
        async with AsyncExitStack() as abuse:
            flood = abuse.enter_context(flooding(broker, str(FLOODER)))
            refused = await abuse.enter_async_context(hoarding(settings.http_port, hoarder, FLOODER))
            fights = await abuse.enter_async_context(fighting(broker, settings.mqtt_client_id))
            steps = await abuse.enter_async_context(stepping(clock))
            await asyncio.sleep(SECONDS)  # until the abusers stop
        harm = {
            "arrays": flood.good,
            "analyses and streams": refused[200],
            "refused": refused[429] + refused[503],
            "takeovers": fights["Success"],
            "steps of the clock": steps.total(),
        }
        assert all(harm.values()), harm
        await stream.halt()
        await expect_each_once(database, stream, flood.good)
        await eventually(lambda: shown(seen), lambda numbers: bool(numbers) and max(numbers) >= stream.count - 1)
        await expect_ticks(database, schedule)
    for daemon in daemons.values():
        assert "Traceback" not in daemon.logged, daemon.logged
    assert (daemons["serve"].starts, daemons["work"].starts) == (1, 1)
    assert refused.keys() <= {200, 429, 503}, (refused, daemons["serve"].logged)
    assert answers.keys() == {201}, answers
    assert await numbers_of(database, OVER_HTTP) == list(range(answers.total()))
    expect_shown(seen, stream.count)


SERVICES = {"ingest": "ingestor", "serve": "api", "work": "worker"}


def given(settings: Settings, role: str) -> dict[str, object]:
    names = ("mqtt_url", "mqtt_client_id", "http_port", "ingestor_metrics_port", "worker_metrics_port", "auth")
    return {"database_url": url_as(settings.database, role), **{name: getattr(settings, name) for name in names}}


async def token_of(api: httpx.AsyncClient, device: int, administrator: str) -> str:
    answer = await api.post(f"/devices/{device}/token", headers=bearer(administrator))
    assert answer.is_success, answer.text
    return str(answer.json()["token"])


async def scheduled(api: httpx.AsyncClient, credential: str) -> int:
    wanted = {"device_id": QUIET, "cron": "* * * * *", "period": "PT1M"}
    answer = await api.post("/stats/analysis/schedules", json=wanted, headers=bearer(credential))
    assert answer.status_code == 201, answer.text
    return int(answer.json()["id"])


def expect_shown(seen: Seen, count: int) -> None:
    """Assert that the live reader got each reading once, from its first on, or a gap event for missing ones."""
    assert len(seen.numbers) == len(set(seen.numbers))
    assert seen.gaps or sorted(seen.numbers) == list(range(seen.numbers[0], count))


async def shown(seen: Seen) -> list[int]:
    return seen.numbers


async def numbers_of(database: Connection, device: int) -> list[int]:
    rows = await database.execute("SELECT x, y FROM readings WHERE device_id = %s ORDER BY y, x", (device,))
    return [number_of({"x": x, "y": y}) for x, y in await rows.fetchall()]


async def expect_each_once(database: Connection, stream: Stream, good: int) -> None:
    """Assert that each reading of the quiet device, and of the flood's good arrays, is stored once."""
    await stream.mark()

    async def look() -> tuple[int, int, int]:
        query = "SELECT count(*) FILTER (WHERE device_id = %s), count(*) FILTER (WHERE device_id = %s) FROM readings"
        (row,) = await (await database.execute(query, (QUIET, FLOODER))).fetchall()
        return row[0], row[1], len(set(await numbers_of(database, QUIET)))

    await eventually(look, lambda found: found == (stream.count, FILLED + good * ARRAY, stream.count))


_TICKS = """
    SELECT count(*), count(DISTINCT tick), extract(epoch FROM max(tick) - min(tick)) / 60,
           count(*) FILTER (WHERE request.status = 'done')
    FROM analysis_ticks JOIN analysis_requests AS request ON request.id = request_id WHERE schedule_id = %s
"""


async def expect_ticks(database: Connection, schedule: int) -> None:
    """Assert that the schedule ticked once in each minute, and that each request has a result."""

    async def look() -> tuple[int, int, int, int]:
        (row,) = await (await database.execute(_TICKS, (schedule,))).fetchall()
        return row[0], row[1], round(row[2] or 0) + 1, row[3]

    most = int(SECONDS // 60) - 1
    await eventually(look, lambda found: found[0] >= most and len(set(found)) == 1)
