"""With 700 months, a read of a device with readings in two of them locks only these two."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import cast
from zoneinfo import ZoneInfo

import pytest
from litestar.types import Scope
from prometheus_client import CollectorRegistry

from query_api.access.confirming import Credentials
from query_api.access.rules import ANYBODY
from query_api.calendar.intervals import Interval
from query_api.calendar.period import Period
from query_api.readings import buckets, listing
from query_api.readings.formats.exports import Exports, _Wanted
from query_api.readings.formats.negotiation import STREAMS
from query_api.readings.formats.permits import Permit
from query_api.readings.plots import series
from query_api.readings.summaries import summarize
from query_api.statistics.analysis import analyse, analyse_items
from query_api.statistics.blocks.reading.items import Items
from query_api.statistics.figures import FIVE
from query_api.web.limits.turns import Bounds, Place, Turns, TurnsMetrics
from query_api.worker.maintenance.removal import remove_some
from shared.postgres.connections import Connection, connect
from shared.postgres.migrate import migrations
from shared.readings import store as readings
from shared.readings.announcements import Announcements
from shared.readings.extents import extent_of, month_of, start_of, widen
from shared.readings.model import Reading, to_microseconds
from shared.readings.partitions import Partitions
from tests.conftest import Database

MONTHS = 700
FIRST_MONTH = datetime(1969, 1, 1, tzinfo=UTC)
NARROW, WIDE = 1, 2
"""A device with readings in two months, and one with readings in each."""
TIMES = [datetime(2026, 1, 31, 23, tzinfo=UTC), datetime(2026, 2, 1, 1, tzinfo=UTC)]
ALWAYS = Period(None, None)

_REGISTER = "INSERT INTO devices (key, name) VALUES ('narrow', 'n'), ('wide', 'w')"
_MAKE = """
    SELECT ensure_readings_partition(month) FROM generate_series(%s, %s, interval '1 month') AS month
"""
_FILL = """
    INSERT INTO readings (device_id, recorded_at, received_at, x, y, z)
    SELECT %s, month, now(), 1, 2, 3 FROM generate_series(%s, %s, interval '1 month') AS month
"""
_LOCKED = """
    SELECT DISTINCT relname FROM pg_locks JOIN pg_class ON pg_class.oid = relation
    WHERE pid = %s AND relname ~ '^readings_[0-9]{4}_[0-9]{2}$' ORDER BY relname
"""
TWO = ["readings_2026_01", "readings_2026_02"]


@pytest.fixture
async def many(database: Database) -> Connection:
    """A connection to a database with 700 months."""
    await database.execute(_REGISTER)
    first, last = month_of(FIRST_MONTH), month_of(FIRST_MONTH) + MONTHS - 1
    await database.execute(_MAKE, (start_of(first), start_of(last)))
    await database.execute(_FILL, (WIDE, start_of(first), start_of(last)))
    await widen(database, {WIDE: (first, last)})
    narrow = [Reading(NARROW, to_microseconds(at), to_microseconds(at), 1, 2, 3) for at in TIMES]
    await Partitions().ensure(database, narrow)
    await readings.store_new(database, narrow, Announcements())
    return database


def reads(device: int) -> dict[str, Callable[[Connection], Awaitable[object]]]:
    """Each read of a device, without a period."""
    within = TIMES[0], TIMES[1]
    return {
        "an analysis": lambda c: analyse_items(c, Items.together([device], None, None), FIVE),
        "an analysis of each": lambda c: analyse_items(c, Items.each([device, device], None, None), FIVE),
        "a page": lambda c: listing.select(c, device, ALWAYS, "asc", None, 100),
        "a page, descending": lambda c: listing.select(c, device, ALWAYS, "desc", None, 100),
        "the latest": lambda c: listing.select(c, device, ALWAYS, "desc", None, 1),
        "the bounds": lambda c: listing.bounds(c, device, ALWAYS),
        "a series": lambda c: series.downsample(c, device, ALWAYS, within, 100),
        "buckets": lambda c: buckets.select(c, device, ALWAYS, None, Interval.parse("P1D"), ZoneInfo("UTC"), 10),
        "in short": lambda c: summarize(c, [device]),
    }


async def locked(connection: Connection, read: Callable[[Connection], Awaitable[object]]) -> list[str]:
    """The months that the read locks."""
    async with connection.transaction():
        await read(connection)
        rows = await (await connection.execute(_LOCKED, (connection.info.backend_pid,))).fetchall()
    return [row[0] for row in rows]


@pytest.mark.plain_only("Citus locks all months of a table for each statement")
async def test_each_read_locks_the_months_of_its_device(many: Connection) -> None:
    """Also after enough executions for the statement to be prepared."""
    for name, read in reads(NARROW).items():
        for turn in range(12):
            assert await locked(many, read) == TWO, (name, turn)
    assert len(await locked(many, reads(WIDE)["an analysis"])) == MONTHS


@pytest.mark.plain_only("Citus locks all months of a table for each statement")
async def test_the_removal_of_a_device_locks_its_months(many: Connection) -> None:
    await many.execute("INSERT INTO deleted_devices (device_id, key) VALUES (%s, 'narrow')", (NARROW,))
    assert await locked(many, remove_some) == TWO
    assert (await many.execute("SELECT FROM readings WHERE device_id = %s", (NARROW,))).rowcount == 0
    assert (await many.execute("SELECT FROM device_extents WHERE device_id = %s", (NARROW,))).rowcount == 0


@pytest.mark.plain_only("Citus locks all months of a table for each statement")
async def test_each_export_locks_the_months_of_its_device(many: Connection, database_url: str) -> None:
    one = Bounds(running=1, each=1, waiting=1, waiting_each=1)
    turns = Turns("streams", one, 1.0, TurnsMetrics(CollectorRegistry()))
    credentials = Credentials(database_url, CollectorRegistry())
    exports = Exports(database_url, turns, credentials)
    scope = cast("Scope", {"auth": ANYBODY})
    exporting = "SELECT pid FROM pg_stat_activity WHERE application_name = 'devicestat api export' AND datname = %s"
    for form in STREAMS:
        permit = Permit(scope, Place(turns, "test"), credentials)
        wanted = _Wanted(form.copy("asc"), NARROW, ALWAYS, None)
        blocks = exports._blocks(permit, wanted, form.encoder(None), keeps_place=True)
        assert await anext(blocks)
        ((pid,),) = await (await many.execute(exporting, (many.info.dbname,))).fetchall()
        assert [row[0] for row in await (await many.execute(_LOCKED, (pid,))).fetchall()] in (TWO, [])
        await blocks.aclose()


async def test_reads_within_an_extent_are_complete(many: Connection) -> None:
    assert (await analyse(many, NARROW, None, None)).x.count == 2
    assert (await analyse(many, WIDE, None, None)).x.count == MONTHS
    assert (await analyse(many, [NARROW, WIDE], None, None)).x.count == MONTHS + 2
    assert (await analyse(many, NARROW, TIMES[1], None)).x.count == 1
    assert (await analyse(many, NARROW, TIMES[1] + timedelta(days=60), None)).x.count == 0
    short = await summarize(many, [NARROW, WIDE])
    assert (short[NARROW].count, short[NARROW].first_at, short[WIDE].count) == (2, TIMES[0], MONTHS)
    assert await listing.bounds(many, NARROW, ALWAYS) == (TIMES[0], TIMES[1])


async def test_reads_of_a_device_without_an_extent_are_complete(many: Connection) -> None:
    await many.execute("DELETE FROM device_extents")
    assert (await analyse(many, NARROW, None, None)).x.count == 2
    assert (await summarize(many, [NARROW, WIDE]))[WIDE].count == MONTHS


async def test_an_extent_is_widened_before_the_reading_is_visible(many: Connection, database_url: str) -> None:
    """Another connection with a cached extent widens it for its readings, and never narrows it."""
    partitions = Partitions()
    times = [datetime(2024, 5, 6, tzinfo=UTC), datetime(2026, 2, 1, tzinfo=UTC), datetime(2028, 1, 1, tzinfo=UTC)]
    async with await connect(database_url, "other") as other:
        for number, at in enumerate(times, start=1):
            new = [Reading(NARROW, to_microseconds(at), 0, number, 0, 0)]
            await partitions.ensure(other, new)
            await readings.store_new(other, new, Announcements())
            assert (await analyse(many, NARROW, None, None)).x.count == 2 + number
    extent = await extent_of(many, [NARROW])
    assert (extent.first, extent.last) == (
        datetime(2024, 5, 1, tzinfo=UTC), datetime(2028, 2, 1, tzinfo=UTC) - timedelta(microseconds=1)
    )  # fmt: skip


@pytest.mark.plain_only("a migration that is older than the distribution, on distributed readings")
async def test_the_migration_finds_the_extents_of_existing_readings(many: Connection) -> None:
    expected = "SELECT device_id, starts_at, ends_at FROM device_extents ORDER BY 1"
    before = await (await many.execute(expected)).fetchall()
    await many.execute("DROP TABLE device_extents")
    await many.execute("DROP FUNCTION find_device_extents")
    (migration,) = (one for one in migrations() if one.name == "device_extents")
    await many.execute(migration.text.encode())
    assert await (await many.execute(expected)).fetchall() == before
