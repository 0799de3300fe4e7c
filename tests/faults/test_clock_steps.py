"""Clocks step by hours, forward and back, while everything runs: no task waits for them, and nothing is lost."""

import json
import subprocess
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import aiomqtt
import pytest

from deploy.local.postgres import EmbeddedPostgres
from query_api.queue import callbacks
from query_api.queue import claims as queue
from query_api.worker.maintenance import moved_clock
from query_api.worker.ticks import run_due_ticks
from shared.access import keys as access_keys
from shared.access.audit import Actor
from shared.access.credentials import Role
from shared.postgres.connections import connect
from shared.postgres.migrate import migrate
from shared.settings import Settings
from tests import services
from tests.claiming import claim_one
from tests.command import argv, environment
from tests.conftest import Broker, Database
from tests.faketime import SteppingClock
from tests.ingestion import IngestorProcess
from tests.ports import free_port
from tests.roles import url_as
from tests.waiting import eventually

HOURS = 3600


@pytest.fixture
def clock() -> Iterator[SteppingClock]:
    with tempfile.TemporaryDirectory(prefix="ds") as directory:
        Path(directory).chmod(0o755)  # PostgreSQL runs as another user
        yield SteppingClock(Path(directory))


async def number(database: Database, query: str) -> int:
    row = await (await database.execute(query.encode())).fetchone()
    assert row is not None
    return int(row[0])


@asynccontextmanager
async def worker_process(url: str, log: Path, clock: SteppingClock) -> AsyncIterator[int]:
    """Run `devicestat work`; yield its telemetry port when it is ready."""
    port = free_port()
    given = environment(database_url=url_as(url, "worker"), worker_metrics_port=port) | clock.environment
    with log.open("wb") as output:
        process = subprocess.Popen(argv("work"), env=given, stderr=output)  # noqa: ASYNC220  # it returns at once
        try:
            await eventually(lambda: services.is_ready(port), bool)
            yield port
        finally:
            process.kill()
            process.wait()


@pytest.mark.parametrize("steps", [(-2 * HOURS, 0), (2 * HOURS, 0), (20 * 365 * 24 * HOURS,)])
async def test_the_workers_rounds_go_on(
    database_url: str, database: Database, tmp_path: Path, clock: SteppingClock, steps: tuple[int, ...]
) -> None:
    """Without NOTIFY, the periodic poll must find the request."""
    await database.execute("INSERT INTO devices (key, name) VALUES ('a', 'n')")
    log = tmp_path / "log"
    async with worker_process(database_url, log, clock) as port:
        for done, offset in enumerate(steps):
            clock.set(offset)

            async def noticed(times: int = done + 1) -> bool:
                return log.read_text().count("the clock was set") >= times

            await eventually(noticed, bool)
            await database.execute("INSERT INTO analysis_requests (device_id, period) VALUES (1, '[,]')")
            await eventually(
                lambda: number(database, "SELECT count(*) FROM analysis_results"),
                lambda results, expected=done + 1: results == expected,  # type: ignore[misc]
            )
            assert await services.is_ready(port)
    assert "Traceback" not in log.read_text()


@pytest.fixture
def stepping_server(clock: SteppingClock, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """URL of a PostgreSQL that uses the clock."""
    with tempfile.TemporaryDirectory(prefix="ds") as directory:
        for name, value in clock.environment.items():
            monkeypatch.setenv(name, value)
        with EmbeddedPostgres(Path(directory), {"fsync": "off"}) as server:
            for name in clock.environment:
                monkeypatch.delenv(name)
            yield server.url


_SOON = """
    SELECT (SELECT max(lease_until) FROM analysis_requests) <= now() + interval '30 s',
           (SELECT max(run_after) FROM analysis_requests) <= now() + interval '5 min',
           (SELECT max(due_at) FROM analysis_callbacks) <= now() + interval '1 min',
           (SELECT max(next_tick) FROM analysis_schedules) <= now() + interval '1 min'
"""


async def test_what_a_database_ahead_put_off_comes_soon_once_its_clock_is_right(
    stepping_server: str, clock: SteppingClock
) -> None:
    async with await connect(stepping_server, "test") as database:
        await migrate(database)
        await database.execute("INSERT INTO devices (key, name) VALUES ('a', 'n'), ('b', 'n')")
        clock.set(2 * HOURS)
        await database.execute("INSERT INTO analysis_requests (device_id, period) VALUES (1, '[,]'), (2, '[,]')")
        await database.execute(
            "INSERT INTO analysis_callbacks (request_id, url, due_at) VALUES (1, 'https://example.org', now())"
        )
        await database.execute(
            "INSERT INTO analysis_schedules (device_id, cron, timezone, align, figures, next_tick)"
            " VALUES (1, '* * * * *', 'UTC', false, '{mean}', now() - interval '1 min')"
        )
        held = [await claim_one(database), await claim_one(database)]
        assert held[1] is not None
        assert await queue.fail(database, held[1], "it failed") == "queued"
        assert len(await callbacks.claim(database, 1)) == 1
        assert await run_due_ticks(database) == 1
        clock.set(0)
        assert await (await database.execute(_SOON)).fetchone() == (False, False, False, False)
        await moved_clock.correct(database)
        assert await (await database.execute(_SOON)).fetchone() == (True, True, True, True)
        await moved_clock.correct(database)
        ahead = "SELECT count(*) FROM analysis_ticks WHERE tick > now()"
        assert await number(database, ahead) == 1  # it is kept, and not created again
        clock.set(HOURS)
        await database.execute("UPDATE analysis_schedules SET next_tick = now() - interval '1 min'")
        assert await run_due_ticks(database) == 1
        assert await number(database, "SELECT count(*) FROM analysis_ticks") == 2


async def test_a_lease_outlives_a_step_forward_once_renewed_and_a_key_follows_the_clock(
    stepping_server: str, clock: SteppingClock
) -> None:
    async with await connect(stepping_server, "test") as database:
        await migrate(database)
        await database.execute("INSERT INTO devices (key, name) VALUES ('a', 'n')")
        await database.execute("INSERT INTO analysis_requests (device_id, period) VALUES (1, '[,]')")
        held = await claim_one(database)
        assert held is not None
        clock.set(2 * HOURS)
        assert await queue.renew(database, [held.token]) == {held.token}
        assert await queue.reap(database) == {}
        clock.set(4 * HOURS)
        assert await queue.reap(database) == {held.id: "queued"}  # also of a worker that has ended
        clock.set(0)
        us, soon = Actor("test", "test"), datetime.now(UTC) + timedelta(hours=1)
        await access_keys.create(database, us, Role.ANALYST, "k", soon)
        revoked = await access_keys.create(database, us, Role.ANALYST, "k", None)
        await access_keys.revoke(database, us, revoked.prefix)

        async def states() -> list[str]:
            return [key.state for key in await access_keys.all_keys(database)]

        assert await states() == ["valid", "revoked"]
        clock.set(2 * HOURS)
        assert await states() == ["expired", "revoked"]
        clock.set(0)
        assert await states() == ["valid", "revoked"]


async def test_readings_are_all_stored_while_the_ingestors_clock_is_set(
    database: Database,
    broker: Broker,
    make_settings: Callable[..., Settings],
    start_ingestor: Callable[..., IngestorProcess],
    clock: SteppingClock,
) -> None:
    """Equal readings without a timestamp: each is stored once, and the times of receipt follow the clock."""
    await database.execute("INSERT INTO devices (key, name) VALUES ('a', 'n')")
    await start_ingestor(make_settings(), **clock.environment).until_ready()
    async with aiomqtt.Client(broker.host, broker.port) as client:
        for sent, offset in enumerate((0, -2 * HOURS, 2 * HOURS, 0), start=1):
            clock.set(offset)
            for _ in range(50):
                await client.publish("devices/a/stats", json.dumps({"x": 1, "y": 2, "z": 3}), qos=1)
            await eventually(
                lambda: number(database, "SELECT count(*) FROM readings"),
                lambda stored, expected=50 * sent: stored == expected,  # type: ignore[misc]
            )
    offsets = (
        "SELECT round(extract(epoch FROM received_at - now()) / 3600), count(*) FROM readings GROUP BY 1 ORDER BY 1"
    )
    assert await (await database.execute(offsets.encode())).fetchall() == [(-2, 50), (0, 100), (2, 50)]
