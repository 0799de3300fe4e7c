"""With a million readings of a hundred devices, each read scans only its readings, in the unique index."""

from datetime import UTC, datetime, timedelta
from itertools import product
from zoneinfo import ZoneInfo

from query_api.calendar.intervals import Interval
from query_api.calendar.period import Period
from query_api.readings import buckets
from query_api.readings import listing as readings
from query_api.readings.formats.exports import prepare
from query_api.readings.formats.negotiation import STREAMS
from query_api.readings.listing import _ReadingsAfter
from query_api.readings.plots import gaps, series
from query_api.readings.row_stream import Order, PartRows, Stretch, read_blocks
from query_api.statistics.analysis import analyse
from shared.postgres.connections import Connection
from shared.readings.model import to_microseconds
from tests import citus
from tests.explained import Explained, Plan

DEVICES = 100
EACH = 10_000
FIRST = datetime(2025, 1, 1, tzinfo=UTC)
STEP = timedelta(minutes=50)  # nearly a year: twelve partitions
LAST = FIRST + (EACH - 1) * STEP
ALWAYS = Period(None, None)
ORDERS: tuple[Order, ...] = ("asc", "desc")
DEVICE = 42
ROUNDED = 0.5 if citus.WORKERS else 0
"""Rows by which the mean over the loops of a scan may differ, as EXPLAIN rounds it."""
UNIQUE_INDEX = "_device_id_recorded_at_x_y_z_key"

REGISTER = "INSERT INTO devices (id, key, name) SELECT n, n, n FROM generate_series(1, %s) AS n"
MONTHS = "SELECT ensure_readings_partition(%s + make_interval(months => n)) FROM generate_series(0, 11) AS n"
FILL = """
    INSERT INTO readings (device_id, recorded_at, received_at, x, y, z)
    SELECT device, %(first)s + n * %(step)s, now(), sin(n) * 900, n %% 7, device
    FROM generate_series(0, %(each)s - 1) AS n, LATERAL generate_series(1 + 0 * n, %(devices)s) AS device
"""


async def fill(database: Connection) -> None:
    # What is not flushed yet a vacuum does not mark as visible to all, and an index alone would not do.
    await database.execute("SET synchronous_commit = on")
    await database.execute(REGISTER, (DEVICES,))
    await database.execute(MONTHS, (FIRST,))
    await database.execute(FILL, {"first": FIRST, "step": STEP, "each": EACH, "devices": DEVICES})
    await database.execute("VACUUM (ANALYZE) readings")


async def test_each_read_scans_only_its_readings_in_the_index(database: Connection) -> None:
    """One test, as filling the table takes longer than all reads."""
    await fill(database)
    explained = Explained(database)
    for read in (pages_of_readings, the_latest_reading, the_bounds, a_series, pages_of_buckets, an_analysis, streams):
        await read(explained)


def from_the_index(plan: Plan, *kinds: str) -> None:
    """The plan takes its readings from the unique index, by these kinds of scans, and never sorts all of them."""
    assert plan.scans
    assert {scan["Node Type"] for scan in plan.scans} <= set(kinds)
    assert all(UNIQUE_INDEX in index for index in plan.indexes)
    assert "Sort" not in plan.kinds


async def pages_of_readings(explained: Explained) -> None:
    """The last page costs as much as the first."""
    for order in ("asc", "desc"):
        await readings.select(explained.connection, DEVICE, ALWAYS, order, None, 51)  # finds out about the tables
        explained.taken()
        costs = []
        for days in (None, 40, 100, 200, 320):
            at = None if days is None else to_microseconds(FIRST + days * timedelta(days=1))
            after = None if at is None else _ReadingsAfter(DEVICE, order, at, 1.0, 2.0, 3.0)
            for period in (ALWAYS, Period(FIRST + timedelta(days=1), LAST - timedelta(days=1))):
                found = await readings.select(explained.connection, DEVICE, period, order, after, 51)
                (plan,) = explained.taken()
                from_the_index(plan, "Index Scan")
                assert plan.rows_read == len(found) == 51
                costs.append(plan.buffers)
        assert max(costs) <= 1.5 * min(costs), (order, costs)


async def the_latest_reading(explained: Explained) -> None:
    (latest,) = await readings.select(explained.connection, DEVICE, ALWAYS, "desc", None, 1)
    assert latest.timestamp == LAST
    (plan,) = explained.taken()
    from_the_index(plan, "Index Scan")
    assert (plan.rows_read, plan.buffers < 20) == (1, True)


async def the_bounds(explained: Explained) -> None:
    assert await readings.bounds(explained.connection, DEVICE, ALWAYS) == (FIRST, LAST)
    (plan,) = explained.taken()
    from_the_index(plan, "Index Only Scan")
    assert (plan.rows_read, plan.buffers < 20) == (2, True)


async def a_series(explained: Explained) -> None:
    within = FIRST + timedelta(days=10), FIRST + timedelta(days=60)
    await gaps.usual_distance(explained.connection, DEVICE, *within)
    found = await series.downsample(explained.connection, DEVICE, ALWAYS, within, 100)
    samples, *of_keys, plan = explained.taken()
    for of_key in of_keys:
        from_the_index(of_key, "Index Only Scan")
    assert {scan["Node Type"] for scan in samples.scans} <= {"Index Only Scan"}
    assert samples.rows_read <= gaps.SAMPLES * (gaps.NEIGHBOURS + 1)
    from_the_index(plan, "Index Only Scan")
    assert plan.rows_read == found.count == 50 * 24 * 60 // 50 + 1


async def pages_of_buckets(explained: Explained) -> None:
    """Each page reads its own readings, with one search for each bucket. Other pages cost nothing."""
    costs = []
    for days in (0, 0, 30, 150, 300):
        start = FIRST + timedelta(days=days)
        found = await buckets.select(
            explained.connection, DEVICE, ALWAYS, start, Interval.parse("PT6H"), ZoneInfo("Europe/Berlin"), 20
        )
        _, intervals, tails = explained.taken()
        for plan in (intervals, tails):
            assert {scan["Node Type"] for scan in plan.scans if scan["Relation Name"].startswith("readings")} == {
                "Index Only Scan"
            }
        counted = sum(bucket.x.count for bucket in found)
        assert (len(found), intervals.rows_read <= 20 + 1) == (20, True)
        assert abs(tails.rows_read - counted) <= ROUNDED * len(found)
        costs.append(intervals.buffers + tails.buffers)
    assert max(costs[1:]) <= 1.5 * min(costs[1:]), costs  # the first found out about the tables


async def streams(explained: Explained) -> None:
    """Rows are sent in the order of the index, so that the first row does not wait for the last."""
    await prepare(explained.connection)
    week = Period(FIRST + timedelta(days=200), FIRST + timedelta(days=207))
    for form, order in product(STREAMS, ORDERS):
        for period, count in ((week, 7 * 24 * 60 // 50 + 1), (ALWAYS, EACH)):
            stretch = Stretch(DEVICE, period.start, period.end)
            async for _ in read_blocks(explained.connection, form.copy(order), stretch, parts=PartRows(100, 2000)):
                pass
            plans = explained.taken()
            for plan in plans:
                from_the_index(plan, "Index Scan", "Index Only Scan")
            of_keys = [plan for plan in plans if "Index Only Scan" in plan.kinds]
            rows = [plan.rows_read for plan in plans if plan not in of_keys]
            assert (sum(rows), len(rows) > 1) == (count, bool(citus.WORKERS)), (form.name, order)
            assert sum(plan.rows_read for plan in of_keys) <= count + len(of_keys)
    await explained.connection.rollback()  # on a cluster, they are of one transaction


async def an_analysis(explained: Explained) -> None:
    """This plan sorts the values for their median."""
    found = await analyse(explained.connection, DEVICE, FIRST, FIRST + 999 * STEP)
    plan = explained.taken()[-1]
    assert {scan["Node Type"] for scan in plan.scans} == {"Index Only Scan"}
    assert sum(scan["Actual Rows"] for scan in plan.scans if scan["Relation Name"] != "devices") == 1000
    assert found.x.count == 1000
