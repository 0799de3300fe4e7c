"""Each statement that stores reads by index, and no more than it is given: in its first execution and in its sixth.

PostgreSQL plans the first five executions of a prepared statement with their values, and may then go over to a plan
without (https://www.postgresql.org/docs/current/sql-prepare.html). Both are forced here.
"""

import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from types import ModuleType

import pytest

from ingestor import devices as ingestor_devices
from ingestor.delivery import journal
from ingestor.delivery.journal import Journal
from ingestor.devices import Devices
from query_api.readings import intake
from query_api.readings.intake import NewReading, Submission
from shared.postgres.connections import Connection
from shared.readings import dead_letters, deletions, extents, partitions
from shared.readings import store as readings
from shared.readings.deletions import Fence
from shared.readings.model import Reading, to_microseconds
from shared.readings.partitions import Partitions
from shared.readings.store import Stored
from tests.letters import letter
from tests.reads import Watched

MODULES = (readings, partitions, extents, deletions, dead_letters, journal, ingestor_devices, intake)
DEVICES, EACH, MONTHS = 200, 1_500, 40
FIRST = datetime(2023, 1, 1, tzinfo=UTC)
STEP = timedelta(hours=19)  # EACH of them take all of the months
OF_CLUSTER = {readings._INSERT_COUNTED}
"""Statements that only a Citus cluster needs."""
ANNOUNCED = 5
"""Devices of which the readings are late."""
GIVEN = 200
"""Readings of a batch."""
MOST_ROWS = 4 * GIVEN
"""Rows and index entries for a batch. The table has a thousand times as many."""
REGISTER = "INSERT INTO devices (id, key, name) SELECT n, 'key-' || n, n FROM generate_series(1, 20000) AS n"
MAKE_MONTHS = "SELECT ensure_readings_partition(%s + make_interval(months => n)) FROM generate_series(0, %s - 1) AS n"
FILL = """
    INSERT INTO readings (device_id, recorded_at, received_at, x, y, z)
    SELECT device, %s + n * %s, now(), n %% 900, 0, device
    FROM generate_series(1, %s) AS device, generate_series(0, %s - 1) AS n
"""
FILL_JOURNAL = """
    INSERT INTO ingest_journal (client_id, batch_no, writer, packets, stored, duplicates)
    SELECT 'client ' || n / 20, n % 20 + 1, gen_random_uuid(), '', 0, 0 FROM generate_series(0, 9999) AS n
"""
FILL_DELETED = "INSERT INTO deleted_devices (device_id, key) SELECT n, n FROM generate_series(100001, 110000) AS n"
FILL_EXTENTS = """
    INSERT INTO device_extents (device_id, starts_at, ends_at)
    SELECT n, %s, %s + make_interval(months => %s) FROM generate_series(1, 20000) AS n
"""
FILL_SEALED = """
    INSERT INTO sealed_devices (device_id, announced, number)
    SELECT n, %s + interval '3 months', CASE WHEN n <= %s THEN n ELSE 0 END FROM generate_series(1, 20000) AS n
"""


async def fill(database: Connection) -> None:
    await database.execute(REGISTER)
    await database.execute(MAKE_MONTHS, (FIRST, MONTHS))
    await database.execute(FILL, (FIRST, STEP, DEVICES, EACH))
    await database.execute(FILL_JOURNAL)
    await database.execute(FILL_DELETED)
    await database.execute(FILL_EXTENTS, (FIRST, FIRST, MONTHS))
    await database.execute(FILL_SEALED, (FIRST, ANNOUNCED))
    await dead_letters.add(database, [letter("devices/1/stats", b"{")] * 5_000)
    await database.execute("VACUUM (ANALYZE)")


def known(count: int, at: int = 0) -> list[Reading]:
    """Return stored readings of ten devices, in turn."""
    return [
        Reading(n % 10 + 1, to_microseconds(FIRST + (at + n // 10) * STEP), 1, float(at + n // 10), 0.0, n % 10 + 1.0)
        for n in range(count)
    ]


def new(count: int, y: float) -> list[Reading]:
    """Return readings that are not stored."""
    return [Reading(one.device_id, one.recorded_at, 1, one.x, y, one.z) for one in known(count)]


def statements(module: ModuleType) -> Iterator[str]:
    """The module's constants that read or write rows."""
    for value in vars(module).values():
        if isinstance(value, str) and re.match(r"\s*(SELECT|INSERT|UPDATE|DELETE|WITH|COPY)\b.", value, re.DOTALL):
            yield value


async def store_all(database: Connection, mark: float) -> None:
    """Run every statement of the modules. `mark`: makes new readings."""
    devices, own = Devices(register=True), Journal("client 7")
    await devices.listen(database)
    await devices.resolve(database, {f"devices/{key}/stats": key for key in ("key-7", f"new-{mark:g}")})
    await journal.load(database, own)
    await readings.prepare(database)
    await Partitions().ensure(database, known(GIVEN))
    assert await partitions.missing_months(database, known(GIVEN)) == []
    assert (await extents.extent_of(database, [1, 2])).first == FIRST
    async with database.transaction():
        await devices.pass_fence(database)
        await readings.store_new(database, new(GIVEN, mark), devices.announcements)
        await keep_dead_letters(database)
        await journal.record(database, own, own.next(b"", held=0), Stored(GIVEN, 0))
    async with database.transaction():
        for batch in (known(GIVEN), [one for one in known(GIVEN) if one.device_id > ANNOUNCED]):
            assert await readings.store(database, batch, devices.announcements) == Stored(0, len(batch))
            await readings.clear(database)
    assert await journal.find(database, own) is not None
    await journal.give_up(database, "client 7")
    await store_requests(database, mark)
    async with database.transaction():
        await Fence().begin(database)
        await deletions.record(database, int(mark) + 200_000, f"deleted {mark}")


async def keep_dead_letters(database: Connection) -> None:
    """One whole, one counted in a row that is new and then is there, one that a replay leaves."""
    refused = letter("devices/1/stats", b"{")
    await dead_letters.add(database, [refused])
    omitted = dead_letters.Omitted("devices/1/stats", "too many", None)
    omitted.add(refused)
    omitted.row = await dead_letters.count(database, omitted)
    assert await dead_letters.count(database, omitted) == omitted.row
    await dead_letters.replace(database, 7, refused)


async def store_requests(database: Connection, mark: float) -> None:
    """Store requests as over HTTP: stored readings, new ones, and one of an unknown device."""
    kept = await readings.store_requests(database, [known(GIVEN // 2, at=30), new(GIVEN // 2, mark + 0.5)])
    assert [request is not None and request.is_new.sum() for request in kept] == [0, GIVEN // 2]
    unknown = Reading(999_999, to_microseconds(FIRST), 1, 0.0, 0.0, 0.0)
    assert await readings.store_requests(database, [[unknown]]) == [None]
    given = [NewReading(device_id=999_999, x=0, y=0, z=0), NewReading(device_id=7, x=0, y=0, z=0)]
    await intake.unknown_devices(database, [one.device_id for one in given], Submission(given, is_array=True))


@pytest.mark.plain_only("the nodes' statistics of a transaction cannot be read")
async def test_each_statement_reads_only_its_rows_by_index(database: Connection) -> None:
    """One test, as filling the table takes longer than all statements."""
    await fill(database)
    watched = Watched(database)
    for number, mode in enumerate(("force_custom_plan", "force_generic_plan", "auto"), 1):
        database.prepare_threshold = 0 if mode == "force_generic_plan" else 5
        await database.execute(f"SET plan_cache_mode = {mode}".encode())
        await store_all(database, float(number))
    wrong = {text: reads for text, reads in watched.reads.items() if _too_much(reads)}
    assert wrong == {}
    written = {text for module in MODULES for text in statements(module)}
    assert written - watched.reads.keys() == OF_CLUSTER, "each statement that stores has its plan tested"


def _too_much(reads: Sequence[object]) -> list[object]:
    return [read for read in reads if read.scanned or read.rows > MOST_ROWS]  # type: ignore[attr-defined]


@pytest.mark.plain_only("Citus locks all months of a table for each statement")
@pytest.mark.parametrize("mode", ["force_custom_plan", "force_generic_plan"])
async def test_storing_over_http_locks_only_the_months_of_its_readings(database: Connection, mode: str) -> None:
    await database.execute(REGISTER)
    await database.execute(MAKE_MONTHS, (FIRST, MONTHS))
    await readings.store_requests(database, [known(GIVEN)])
    await database.execute(f"SET plan_cache_mode = {mode}".encode())
    async with database.transaction():
        await readings.store_requests(database, [known(GIVEN)])
        rows = await database.execute(
            "SELECT DISTINCT relation::regclass::text FROM pg_locks WHERE pid = pg_backend_pid() "
            "AND relation IN (SELECT inhrelid FROM pg_inherits WHERE inhparent = 'readings'::regclass)"
        )
        assert [row[0] for row in await rows.fetchall()] == ["readings_2023_01"]
