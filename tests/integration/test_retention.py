"""Months that ended longer ago than RETENTION are dropped, and no other data."""

import asyncio
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from ingestor.replay import Replay
from query_api.worker.maintenance.partitions import drop_partitions
from shared.postgres.connections import connect
from shared.readings.model import Reason
from shared.readings.store import prepare
from shared.settings import Settings
from tests import services
from tests.conftest import Broker, Database
from tests.ingestion import running_ingestor
from tests.letters import keep, letter
from tests.publisher import Message, publish
from tests.roles import url_as
from tests.services import worker
from tests.waiting import eventually

_MAKE = "SELECT ensure_readings_partition(%s)"
_MONTHS = r"SELECT relname FROM pg_class WHERE relname ~ '^readings_\d{4}_\d\d$' AND relkind = 'r' ORDER BY relname"


async def months(database: Database) -> list[str]:
    return [row[0] for row in await (await database.execute(_MONTHS.encode())).fetchall()]


async def rows(database: Database, query: str) -> list[tuple[Any, ...]]:
    return await (await database.execute(query.encode())).fetchall()


async def drop_as_worker(url: str) -> list[str]:
    async with await connect(url_as(url, "worker"), "worker") as connection:
        return await drop_partitions(connection, timedelta(days=45))


async def test_an_owner_without_roles_drops_months(database: Database) -> None:
    """As in a database without the roles."""
    await database.execute(_MAKE, ("2020-01-15",))
    assert await drop_partitions(database, timedelta(days=45)) == ["readings_2020_01"]


async def test_a_month_is_dropped_when_its_end_is_older_than_retention(database: Database, database_url: str) -> None:
    now = datetime.now(UTC)
    for moment in ("2020-01-15", "2020-02-15", now - timedelta(days=40)):
        await database.execute(_MAKE, (moment,))
    before = await months(database)
    dropped = await drop_as_worker(database_url)
    assert dropped == ["readings_2020_01", "readings_2020_02"]
    assert await months(database) == [month for month in before if month not in dropped]
    assert await drop_as_worker(database_url) == []


async def test_a_month_is_kept_for_a_day_after_its_readings_are_refused(database: Database, database_url: str) -> None:
    """A reading that was accepted by its age is not dropped before it is stored."""
    now = datetime.now(UTC)
    await database.execute(_MAKE, ("2020-01-15",))
    age = now - datetime(2020, 2, 1, tzinfo=UTC)
    async with await connect(url_as(database_url, "worker"), "worker") as connection:
        assert await drop_partitions(connection, age - timedelta(hours=23)) == []
        assert await drop_partitions(connection, age - timedelta(hours=25)) == ["readings_2020_01"]


async def test_readings_older_than_retention_are_refused(
    make_settings: Callable[..., Settings], broker: Broker, database: Database
) -> None:
    """Over MQTT it becomes a dead letter, also when that is replayed; over HTTP it is 422."""
    now = datetime.now(UTC)
    old, young = (now - timedelta(days=45) + timedelta(minutes=minutes) for minutes in (-1, 10))
    settings = make_settings(retention="45d")
    await database.execute("INSERT INTO devices (key, name) VALUES ('1', 'Boiler')")
    both = [{"x": 1, "y": 2, "z": 3, "timestamp": moment.isoformat()} for moment in (old, young)]
    async with running_ingestor(settings):
        await publish(broker.host, broker.port, Message(json.dumps(both).encode(), topic="devices/1/stats"))
        letters = "SELECT id, reason, detail FROM dead_letters"
        ((number, reason, detail),) = await eventually(lambda: rows(database, letters), bool)
    assert (reason, "45 days old" in detail, old.isoformat() in detail) == ("bad_timestamp", True, True)
    assert await rows(database, "SELECT recorded_at FROM readings") == [(young,)]
    await prepare(database)
    replayed = await Replay(settings, database).replay(number)
    assert replayed is not None
    assert replayed.refused == {Reason.BAD_TIMESTAMP: 1}
    async with services.api(settings) as api:
        answer = await api.post("/stats", json={"device_id": 1, **both[0]})
        assert (answer.status_code, "45 days old" in answer.json()["detail"]) == (422, True)
        assert (await api.post("/stats", json={"device_id": 1, **both[1]})).status_code == 200


async def test_an_array_over_57_years_creates_the_months_of_ten(
    make_settings: Callable[..., Settings], broker: Broker, database: Database
) -> None:
    """Older readings are refused with their message, and the next reading of another device is stored."""
    now = datetime.now(UTC)
    moments = [now - n * timedelta(days=30.5) for n in range(683)]
    within = [moment for moment in moments if moment > now - Settings().oldest_age]
    await database.execute("INSERT INTO devices (key, name) VALUES ('1', 'Boiler'), ('2', 'Lathe')")
    array = [{"x": 1, "y": 2, "z": 3, "timestamp": moment.isoformat()} for moment in moments]
    before = len(await months(database))
    async with running_ingestor(make_settings()):
        await publish(
            broker.host, broker.port,
            Message(json.dumps(array).encode(), topic="devices/1/stats"),
            Message(b'{"x": 1, "y": 2, "z": 3}', topic="devices/2/stats"),
        )  # fmt: skip
        stored = "SELECT device_id, count(*) FROM readings GROUP BY 1 ORDER BY 1"
        await eventually(lambda: rows(database, stored), lambda found: found == [(1, len(within)), (2, 1)])
    assert len(await months(database)) - before <= 121
    assert len(await rows(database, "SELECT FROM dead_letters WHERE reason = 'bad_timestamp'")) == 1


async def test_a_reading_without_a_time_is_not_replayed_after_retention(database: Database, database_url: str) -> None:
    await database.execute("INSERT INTO devices (key, name) VALUES ('1', 'Boiler')")
    received_at = datetime.now(UTC) - timedelta(days=46)
    await keep(database_url, [letter("devices/1/stats", b'{"x":1,"y":2,"z":3}', received_at=received_at)])
    await prepare(database)
    replayed = await Replay(Settings(retention="45d"), database).replay(1)
    assert replayed is not None
    assert (replayed.refused, "45 days old" in replayed.detail) == ({Reason.BAD_TIMESTAMP: 1}, True)
    assert await rows(database, "SELECT recorded_at FROM readings") == []


async def test_a_month_that_a_killed_worker_detached_is_dropped(database: Database, database_url: str) -> None:
    await database.execute(_MAKE, ("2020-01-15",))
    await database.execute("ALTER TABLE readings DETACH PARTITION readings_2020_01")
    assert await drop_as_worker(database_url) == ["readings_2020_01"]
    assert "readings_2020_01" not in await months(database)


@pytest.mark.plain_only("Citus has no DETACH … CONCURRENTLY, and so none that ends half-way")
async def test_a_month_that_a_killed_worker_was_detaching_is_dropped(database: Database, database_url: str) -> None:
    await database.execute(_MAKE, ("2020-02-15",))
    # A reader in a transaction keeps DETACH … CONCURRENTLY from its second half; the worker that waits dies.
    async with await connect(database_url, "reader") as reader, await connect(database_url, "dying") as dying:
        await reader.set_autocommit(False)
        await reader.execute("SELECT FROM readings")
        task = asyncio.create_task(dying.execute("ALTER TABLE readings DETACH PARTITION readings_2020_02 CONCURRENTLY"))

        async def pending() -> bool:
            return (await database.execute("SELECT FROM pg_inherits WHERE inhdetachpending")).rowcount == 1

        await eventually(pending, bool)
        task.cancel()
        await asyncio.wait([task])
    assert await drop_as_worker(database_url) == ["readings_2020_02"]
    assert "readings_2020_02" not in await months(database)


async def test_concurrent_workers_drop_each_month_once(database: Database, database_url: str) -> None:
    for year in range(2000, 2010):
        await database.execute(_MAKE, (f"{year}-01-15",))

    dropped = await asyncio.gather(*(drop_as_worker(database_url) for _ in range(4)))
    assert sorted(name for names in dropped for name in names) == [f"readings_{year}_01" for year in range(2000, 2010)]


async def test_the_worker_drops_months_if_retention_is_set(
    make_settings: Callable[..., Settings], database: Database
) -> None:
    await database.execute(_MAKE, ("2020-01-15",))
    async with worker(make_settings(retention="400d")):
        await eventually(lambda: months(database), lambda names: "readings_2020_01" not in names)
        there = await months(database)
    assert f"readings_{datetime.now(UTC):%Y_%m}" in there
