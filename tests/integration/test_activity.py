"""The worker's round that keeps the activity of devices (ADR 47)."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from query_api.devices.activity import Activity, State, state_after
from query_api.statistics.blocks.building import Columns
from query_api.worker.maintenance.activity import ActivityRound
from query_api.worker.maintenance.duty import alone
from query_api.worker.maintenance.partitions import drop_partitions
from query_api.worker.maintenance.removal import remove_all
from shared.postgres.connections import connect
from shared.readings.model import SECOND, to_microseconds
from tests.blocks import stored
from tests.conftest import Database
from tests.roles import url_as

Row = tuple[State, float | None, float | None, float]
"""State, age of the last reading in seconds, interval in seconds, rate."""


@pytest.fixture
def worker() -> ActivityRound:
    return ActivityRound(share=1.0)


async def send(database: Database, device: int, ages: Sequence[float]) -> None:
    """Store readings of these ages in seconds, oldest first."""
    now = to_microseconds(datetime.now(UTC))
    times = np.array([now - round(age * SECOND) for age in ages], np.int64)
    await stored(database, device, Columns(times, *np.random.default_rng(device).normal(0, 1, (3, len(ages)))))


_ROWS = """
    SELECT device_id, state, extract(epoch FROM now() - nullif(last_at, '-infinity'))::float8,
           extract(epoch FROM activity.interval)::float8, rate
    FROM device_activity AS activity ORDER BY device_id
"""


async def activity(database: Database) -> dict[int, Row]:
    rows = await (await database.execute(_ROWS)).fetchall()
    return {device: (list(State)[code], age, interval, rate) for device, code, age, interval, rate in rows}


async def states(database: Database) -> dict[int, State]:
    return {device: row[0] for device, row in (await activity(database)).items()}


async def test_the_state_is_by_the_usual_interval(database: Database, worker: ActivityRound) -> None:
    every = 60.0
    for device, age in {1: 1.0, 2: 110.0, 3: 130.0, 4: 590.0, 5: 610.0}.items():
        await send(database, device, [age + every * number for number in range(9, -1, -1)])
    await database.execute("INSERT INTO devices (id, key, name) VALUES (6, '6', 'n')")
    assert set((await states(database)).values()) == {State.NEVER}
    await worker.keep(database)
    found = await activity(database)
    assert [row[0] for row in found.values()] == [
        State.LIVE, State.LIVE, State.LATE, State.LATE, State.SILENT, State.NEVER
    ]  # fmt: skip
    assert [row[2] for row in found.values()] == [60, 60, 60, 60, 60, None]
    assert [row[3] for row in found.values()] == [pytest.approx(1 / 60)] * 4 + [0, 0]
    assert found[6] == (State.NEVER, None, None, 0)


async def test_an_interval_below_five_seconds_counts_as_five(database: Database, worker: ActivityRound) -> None:
    for device, age in {1: 8.0, 2: 20.0, 3: 45.0, 4: 55.0}.items():
        await send(database, device, [age + number / 10 for number in range(9, -1, -1)])
    await worker.keep(database)
    assert list((await states(database)).values()) == [State.LIVE, State.LATE, State.LATE, State.SILENT]
    assert (await activity(database))[1][2:] == (0.1, pytest.approx(10))


@pytest.mark.parametrize(
    ("ages", "interval", "rate"),
    [
        ([1], None, 0),
        ([3, 3, 3], None, 0),
        ([21, 11, 1], 10, 0.1),
        ([21, 21, 11, 11, 1, 1], 10, 0.25),  # two at a time
        ([9000, 31, 21, 11, 1], 10, 0.1),  # a pause is no interval
        ([500, 400, 300, *range(100, 0, -10)], 10, 0.1),  # the last ten
    ],
)
async def test_interval_and_rate(
    database: Database, worker: ActivityRound, ages: list[float], interval: float | None, rate: float
) -> None:
    await send(database, 1, ages)
    await worker.keep(database)
    state, _, found, per_second = (await activity(database))[1]
    assert (state, found) == (State.LIVE, interval)
    assert per_second == pytest.approx(rate)


async def test_a_device_that_sends_again_is_live(database: Database, worker: ActivityRound) -> None:
    await send(database, 1, [3000, 2990])
    await worker.keep(database)
    assert await states(database) == {1: State.SILENT}
    await send(database, 1, [1])
    await worker.keep(database)
    assert await states(database) == {1: State.LIVE}


async def test_a_clock_that_is_ahead_does_not_keep_a_device_live(database: Database, worker: ActivityRound) -> None:
    """The receipt counts, or another reading that is newer."""
    for device in (1, 2, 3):
        await send(database, device, [-7200, -7260])
    await send(database, 3, [1])
    await database.execute("UPDATE readings SET received_at = now() WHERE device_id = 1")
    await database.execute("UPDATE readings SET received_at = now() - interval '1 day' WHERE device_id > 1")
    await worker.keep(database)
    assert await states(database) == {1: State.LIVE, 2: State.SILENT, 3: State.LIVE}
    _, age, _, _ = (await activity(database))[2]
    assert age == pytest.approx(86_400, abs=60)
    await database.execute("UPDATE readings SET received_at = now() - interval '1 day'")
    await worker.keep(database)
    assert (await states(database))[1] is State.SILENT


async def test_only_what_has_changed_is_written(database: Database, worker: ActivityRound) -> None:
    for device in (1, 2):
        await send(database, device, [3000, 2940])
    await worker.keep(database)
    before = await versions(database)
    await send(database, 2, [1])
    await worker.keep(database)
    after = await versions(database)
    assert (after[1] == before[1], after[2] == before[2]) == (True, False)


async def versions(database: Database) -> dict[int, str]:
    rows = await (await database.execute("SELECT device_id, ctid::text FROM device_activity")).fetchall()
    return dict(rows)


# Citus shifts a column only by an immutable expression.
_AN_HOUR_EARLIER = """
    UPDATE readings SET recorded_at = (recorded_at AT TIME ZONE 'UTC' - interval '1 hour') AT TIME ZONE 'UTC'
"""


async def test_of_many_live_devices_some_are_written_in_each_round(database: Database) -> None:
    """But a state is written in the round that finds it."""
    worker = ActivityRound(share=1.0, at_once=2, written=2)
    for device in range(1, 7):
        await send(database, device, [61, 1])
    await worker.keep(database)
    rounds = []
    for _ in range(3):
        before = await versions(database)
        for device in range(1, 7):
            await send(database, device, [0])
        await worker.keep(database)
        after = await versions(database)
        rounds.append({device for device in after if after[device] != before[device]})
    assert sorted(map(len, rounds)) == [2, 2, 2]
    assert set.union(*rounds) == set(range(1, 7))
    await database.execute(_AN_HOUR_EARLIER)
    await worker.keep(database)
    assert set((await states(database)).values()) == {State.SILENT}


async def test_a_round_notes_when_it_began(database: Database, worker: ActivityRound) -> None:
    noted = "SELECT began_at <= now() AND began_at > now() - interval '1 minute' FROM device_activity_round"
    assert await (await database.execute(noted)).fetchall() == [(None,)]
    await worker.keep(database)
    assert await (await database.execute(noted)).fetchall() == [(True,)]


async def test_one_worker_at_a_time(database: Database, worker: ActivityRound, database_url: str) -> None:
    await send(database, 1, [61, 1])
    async with await connect(database_url, "other") as other:
        async with alone(other, "activity round"):
            await worker.keep(database)
            assert await states(database) == {1: State.NEVER}
        await worker.keep(database)
    assert await states(database) == {1: State.LIVE}


async def test_the_round_needs_no_other_privileges(
    database: Database, worker: ActivityRound, database_url: str
) -> None:
    await send(database, 1, [61, 1])
    await send(database, 2, [-100])
    async with await connect(url_as(database_url, "worker"), "worker") as connection:
        await worker.keep(connection)
    assert (await states(database))[1] is State.LIVE


async def test_a_locked_device_is_left_to_the_next_round(
    database: Database, worker: ActivityRound, database_url: str
) -> None:
    for device in (1, 2):
        await send(database, device, [61, 1])
    async with await connect(database_url, "other") as other, other.transaction():
        await other.execute("UPDATE devices SET name = 'other' WHERE id = 1")
        await worker.keep(database)
        assert await states(database) == {1: State.NEVER, 2: State.LIVE}
    await worker.keep(database)
    assert await states(database) == {1: State.LIVE, 2: State.LIVE}


async def test_the_row_of_a_device_follows_it(database: Database, worker: ActivityRound) -> None:
    await send(database, 1, [61, 1])
    await database.execute("UPDATE devices SET name = 'Boiler' WHERE id = 1")
    names = await (await database.execute("SELECT lower_name FROM device_activity")).fetchall()
    assert names == [("boiler",)]
    await database.execute("DELETE FROM devices WHERE id = 1")
    await database.execute("INSERT INTO deleted_devices (device_id, key) VALUES (1, 'key-1')")
    assert await activity(database) == {}
    await remove_all(database)
    await worker.keep(database)
    assert await activity(database) == {}


async def test_a_device_whose_readings_were_dropped_never_had_one(database: Database, worker: ActivityRound) -> None:
    year = 365 * 86_400.0
    await send(database, 1, [year + 60, year])
    await send(database, 2, [year, 1])
    await worker.keep(database)
    assert await states(database) == {1: State.SILENT, 2: State.LIVE}
    assert await drop_partitions(database, timedelta(days=90))
    await worker.keep(database)
    found = await activity(database)
    assert found[1] == (State.NEVER, None, None, 0)
    assert found[2][0] is State.LIVE


async def test_devices_of_before_the_migration_have_rows(database: Database) -> None:
    triggers = "SELECT tgname FROM pg_trigger WHERE tgrelid = 'devices'::regclass AND NOT tgisinternal ORDER BY 1"
    assert await (await database.execute(triggers)).fetchall() == [
        ("devices_begin_activity",), ("devices_rename_activity",)
    ]  # fmt: skip
    await database.execute("INSERT INTO devices (key, name) SELECT n, 'N' || n FROM generate_series(1, 3) AS n")
    count = await (await database.execute("SELECT count(*) FROM device_activity")).fetchone()
    assert count == (3,)


def test_the_state_that_is_shown_considers_the_latest_reading() -> None:
    now = datetime(2026, 1, 31, 12, tzinfo=UTC)
    minute = timedelta(minutes=1)
    known = Activity(now=now, last_at=now - 30 * minute, interval=minute, rate=0.0)
    assert known.state(None) is State.NEVER
    assert known.state(now - minute) is State.LIVE
    assert known.state(now - 5 * minute) is State.LATE
    assert known.state(now + minute) is State.SILENT, "by the receipt, which the worker has considered"
    assert Activity(now=now).state(now - timedelta(seconds=9)) is State.LIVE
    assert Activity(now=now).state(now + minute) is State.LIVE, "it was received just now"


@pytest.mark.parametrize(
    ("seconds", "interval", "state"),
    [
        (10, 1, State.LIVE), (10.1, 1, State.LATE), (50, 1, State.LATE), (50.1, 1, State.SILENT),
        (120, 60, State.LIVE), (121, 60, State.LATE), (600, 60, State.LATE), (601, 60, State.SILENT),
        (10, None, State.LIVE), (11, None, State.LATE),
    ],
)  # fmt: skip
def test_bounds_of_the_states(seconds: float, interval: float | None, state: State) -> None:
    usual = None if interval is None else timedelta(seconds=interval)
    assert state_after(timedelta(seconds=seconds), usual) is state
