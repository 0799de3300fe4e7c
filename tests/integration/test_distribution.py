"""`devicestat migrate --distributed`."""

import asyncio
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import numpy as np
import psycopg
import pytest

from query_api.statistics.blocks.building import Columns
from query_api.statistics.blocks.reading import cover
from query_api.statistics.blocks.reading.items import Items
from query_api.statistics.blocks.reading.snapshot import snapshot
from query_api.statistics.blocks.reading.statistics import Needs, read_statistics
from query_api.statistics.blocks.sealing.merging import merge
from shared.errors import DatabaseError
from shared.postgres.connections import connect
from shared.postgres.distribution import SHARDS, TABLES, distribute, is_distributed, owners
from shared.postgres.migrate import migrate
from shared.postgres.roles import complete_nodes, set_up
from shared.readings.model import SECOND
from tests import citus
from tests.blocks import SMALL, sealed, stored
from tests.command import run
from tests.conftest import Database
from tests.roles import url_as

NEEDS = Needs((0.5,), squares=True, deviations=False, ends=True)
START = 1_767_225_600 * SECOND  # 2026-01-01


@pytest.mark.plain_only("the database has the extension")
def test_a_database_without_the_extension_says_what_is_missing(database_url: str) -> None:
    done = run("migrate", "--distributed", database_url=database_url)
    assert done.returncode == 1
    assert "the database has no extension citus: install Citus on each node" in done.stderr


def test_shards_are_of_a_distribution(database_url: str) -> None:
    done = run("migrate", "--shards", "4", database_url=database_url)
    assert done.returncode == 2
    assert "--shards goes with --distributed" in done.stderr


@pytest.mark.plain_only("the database is distributed")
async def test_a_database_of_its_own_is_not_distributed(database: Database) -> None:
    assert not await is_distributed(database)


@citus.on_a_cluster
async def test_a_cluster_without_workers_says_so(empty_database_url: str) -> None:
    async with await connect(empty_database_url, "test") as connection:
        await connection.execute("CREATE EXTENSION citus")
        await migrate(connection)
        await connection.execute("SELECT citus_set_coordinator_host('127.0.0.1')")
        with pytest.raises(DatabaseError, match="the cluster has no worker node: add one with citus_add_node"):
            await distribute(connection)


@citus.on_a_cluster
async def test_an_inactive_node_is_named(empty_database_url: str) -> None:
    with citus.alone(citus.at(empty_database_url, "postgres")):
        citus.form_cluster(empty_database_url)
    host, _, port = citus.WORKERS[0].rpartition(":")
    async with await connect(empty_database_url, "test") as connection:
        await migrate(connection)
        await connection.execute("SELECT citus_disable_node(%s, %s, synchronous => true)", (host, int(port)))
        with pytest.raises(DatabaseError, match=f"are not active: {citus.WORKERS[0]}: call citus_activate_node"):
            await distribute(connection)
        assert not await is_distributed(connection)


_ROWS = """
    INSERT INTO readings (device_id, recorded_at, received_at, x, y, z)
    SELECT n % 10, now() + n * interval '1 s', now(), n, 0, 0 FROM generate_series(1, 1000) n
"""
_PLACES = "SELECT table_name::text, shard_count, colocation_id FROM citus_tables"


@citus.on_a_cluster
async def test_rows_move_to_the_nodes_and_the_tables_are_colocated(empty_database_url: str) -> None:
    with citus.alone(citus.at(empty_database_url, "postgres")):
        citus.form_cluster(empty_database_url)
    async with await connect(empty_database_url, "test") as connection:
        await migrate(connection)
        await connection.execute(_ROWS)
        await connection.execute("INSERT INTO sealed_devices (device_id, announced, sealed) VALUES (1, now(), now())")
        done = await distribute(connection)
        assert (done.shards, list(done.added)) == (SHARDS, list(TABLES))
        counts = (
            "SELECT (SELECT count(*) FROM readings), (SELECT sum(x) FROM readings), (SELECT count(*) FROM sealed_until)"
        )
        assert await (await connection.execute(counts)).fetchone() == (1000, 500_500, 1)
        local = "SELECT sum(pg_relation_size(inhrelid)) FROM pg_inherits WHERE inhparent = 'readings'::regclass"
        assert await (await connection.execute(local)).fetchone() == (0,), "the coordinator keeps no copy"
        rows = await (await connection.execute(_PLACES)).fetchall()
        places = {name: (shards, colocation) for name, shards, colocation in rows}
        assert {places[name] for name in TABLES} == {places["readings"]}


@contextmanager
def owned(url: str) -> Iterator[str]:
    """Let a role that is no superuser, but may create roles, own the database on each node; yield its URL."""
    owner = f"owner_{uuid.uuid4().hex[:12]}"
    create = f"CREATE ROLE {owner} LOGIN CREATEROLE; GRANT devicestat_readings, devicestat_partitions TO {owner}"
    give = f"ALTER DATABASE {urlsplit(url).path[1:]} OWNER TO {owner}"
    take_back = f"REASSIGN OWNED BY {owner} TO CURRENT_USER; DROP OWNED BY {owner}; DROP ROLE {owner}"
    _on_each_node(url, f"{create} WITH ADMIN OPTION; {give}")
    try:
        yield urlunsplit(urlsplit(url)._replace(netloc=f"{owner}@{urlsplit(url).netloc.rpartition('@')[2]}"))
    finally:
        _on_each_node(url, take_back)


def _on_each_node(url: str, statements: str) -> None:
    for node in citus.nodes(url):
        with psycopg.connect(node) as connection:
            connection.execute(f"SET citus.enable_ddl_propagation = off; {statements}".encode())


@citus.on_a_cluster
async def test_an_owner_that_is_no_superuser_distributes(empty_database_url: str) -> None:
    with citus.alone(citus.at(empty_database_url, "postgres")):
        citus.form_cluster(empty_database_url)
        with owned(empty_database_url) as url:
            async with await connect(url, "test") as connection:
                await migrate(connection)
                await set_up(connection)
                await connection.execute(
                    "SELECT ensure_readings_partition(now() + n * interval '1 h') FROM unnest('{0,1}'::int[]) n"
                )
                await connection.execute(_ROWS)
                assert list((await distribute(connection)).added) == list(TABLES)
                await set_up(connection)
                assert list(await owners(connection)) == ["devicestat_partitions"]
                await store_as_ingestor(empty_database_url)
                assert await (await connection.execute("SELECT count(*) > 1000 FROM readings")).fetchone() == (True,)


async def store_as_ingestor(url: str) -> None:
    """Make a month, and store readings."""
    async with await connect(url_as(url, "ingestor"), "test") as ingestor:
        await ingestor.execute("SELECT ensure_readings_partition('2031-05-05')")
        await ingestor.execute(_ROWS)


@citus.on_a_cluster
async def test_it_may_be_done_twice_and_with_the_same_shards_only(database: Database) -> None:
    again = await distribute(database)
    assert (again.shards, list(again.added)) == (citus.SHARDS, [])
    with pytest.raises(DatabaseError, match=f"already distributed over {citus.SHARDS} shards, not 16"):
        await distribute(database, 16)


_IDENTITIES = """
    SELECT relname, relreplident FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid
    WHERE inhparent = 'readings'::regclass
"""


async def test_each_month_has_a_replica_identity(database: Database) -> None:
    """Else Citus could not move its shards while rows are written."""
    await database.execute("SELECT ensure_readings_partition('2031-05-05')")
    found = dict(await (await database.execute(_IDENTITIES)).fetchall())
    assert "readings_2031_05" in found
    assert set(found.values()) == {"i"}


@citus.on_a_cluster
async def test_a_later_month_is_distributed(database: Database) -> None:
    await database.execute("SELECT ensure_readings_partition('2031-05-05')")
    places = {name: shards for name, shards, _ in await (await database.execute(_PLACES)).fetchall()}
    assert places["readings_2031_05"] == citus.SHARDS


@citus.on_a_cluster
async def test_the_nodes_know_up_to_when_a_device_is_sealed(database: Database) -> None:
    await database.execute("INSERT INTO sealed_devices (device_id, announced) VALUES (1, now()), (2, now())")
    await database.execute("UPDATE sealed_devices SET sealed = announced")
    same = "SELECT count(*) FROM sealed_until WHERE sealed = (SELECT max(sealed) FROM sealed_devices)"
    assert await (await database.execute(same)).fetchone() == (2,)
    await database.execute("DELETE FROM sealed_devices WHERE device_id = 1")
    assert await (await database.execute("SELECT device_id FROM sealed_until")).fetchall() == [(2,)]


_PLACE = """
    SELECT shardid, nodename, nodeport FROM citus_shards WHERE table_name = 'readings'::regclass
    ORDER BY shardid LIMIT 1
"""
_LATER = """
    INSERT INTO readings (device_id, recorded_at, received_at, x, y, z)
    SELECT n, now(), now(), n, 0, %s FROM generate_series(1, 100) n
"""
_MOVE = "SELECT citus_move_shard_placement(%s, %s, %s, %s, %s)"


@citus.on_a_cluster
async def test_a_shard_moves_while_rows_are_written(database: Database, database_url: str) -> None:
    await database.execute(
        "SELECT ensure_readings_partition(now() + make_interval(days => n)) FROM unnest('{0,31}'::int[]) n"
    )
    await database.execute(_ROWS)
    shard, *source = await (await database.execute(_PLACE)).fetchone() or ()
    target = next(worker for worker in citus.WORKERS if worker != f"{source[0]}:{source[1]}")
    host, _, port = target.rpartition(":")
    async with await connect(url_as(database_url, "ingestor"), "test") as ingestor:
        moving = asyncio.create_task(database.execute(_MOVE, (shard, *source, host, int(port))))
        batches = 0
        while not moving.done():
            batches += 1
            await ingestor.execute(_LATER, (batches,))
        await moving
    assert batches > 0
    assert await (await database.execute(_PLACE)).fetchone() == (shard, host, int(port))
    assert await (await database.execute("SELECT count(*), count(DISTINCT x) FROM readings")).fetchone() == (
        1000 + 100 * batches,
        1000,
    )


_OPTIONS = "SELECT rolcanlogin, rolinherit FROM pg_roles WHERE rolname = %s"


@citus.on_a_cluster
@pytest.mark.parametrize("inherits", [True, False])
async def test_a_role_that_was_made_before_citus_is_made_on_the_nodes(
    inherits: bool, database: Database, database_url: str
) -> None:
    role = f"test_{uuid.uuid4().hex[:12]}"
    servers = [citus.at(node, "postgres") for node in citus.nodes(database_url)]
    with psycopg.connect(servers[-1], autocommit=True) as beside:
        beside.execute(f"CREATE ROLE {role} {'INHERIT' if inherits else 'NOINHERIT'}".encode())
    try:
        for _ in range(2):
            await complete_nodes(database, [role])
            for server in servers[:-1]:
                with psycopg.connect(server) as node:
                    assert node.execute(_OPTIONS, (role,)).fetchone() == (True, inherits)
    finally:
        for server in servers:
            with psycopg.connect(server, autocommit=True) as node:
                node.execute(f"DROP ROLE {role}".encode())


_ONE_OF_EACH_NODE = """
    SELECT min(id) FROM devices
    JOIN pg_dist_shard_placement ON shardid = get_shard_id_for_distribution_column('readings', id)
    GROUP BY nodename, nodeport
"""


async def test_a_read_of_many_devices_is_of_one_snapshot(database: Database, database_url: str) -> None:
    """On a cluster, one for each node: a second connection to it would begin a later snapshot."""
    devices = list(range(1, 41))
    every = Items.together(devices, None, None)
    times = START + SECOND * np.arange(100)
    columns = Columns(times, *(np.arange(100.0) for _ in range(3)))
    for device in devices:
        await stored(database, device, columns)
        await sealed(database, device, START + 50 * SECOND, SMALL)
    before = await read_statistics(database, every, NEEDS, SMALL)
    one_each = await (await database.execute(_ONE_OF_EACH_NODE)).fetchall() if citus.WORKERS else [(1,)]
    async with await connect(database_url, "test") as other:
        await other.execute("SET citus.force_max_query_parallelization = on")
        async with snapshot(other):
            for (device,) in one_each:
                await read_statistics(other, Items.together([device], None, None), NEEDS, SMALL)
            for device in devices:
                await stored(database, device, Columns(times + 100 * SECOND, *columns.axes))
                await sealed(database, device, START + 120 * SECOND, SMALL)
            assert await read_statistics(other, every, NEEDS, SMALL) == before
            if citus.WORKERS:
                assert await connections_to_nodes(other, database) == [1] * len(citus.WORKERS)
    after = await read_statistics(database, every, NEEDS, SMALL)
    assert after.from_blocks + after.from_rows == 2 * 100 * len(devices)


async def connections_to_nodes(connection: Database, other: Database) -> list[int]:
    """Return how many connections the coordinator has to each node for this connection. Asks by another one."""
    row = await (await connection.execute("SELECT citus_backend_gpid()")).fetchone()
    assert row is not None
    name = f"citus_internal gpid={row[0]}"
    count = f"SELECT count(*) FROM pg_stat_activity WHERE application_name = '{name}'"  # noqa: S608  # a number
    rows = await (await other.execute("SELECT result FROM run_command_on_workers(%s)", (count,))).fetchall()
    return [int(found) for (found,) in rows]


@citus.on_a_cluster
@pytest.mark.parametrize("hidden", ["{}", "{[2026-01-01 00:00+00,2026-01-01 00:01+00)}"])
@pytest.mark.parametrize("period", [(None, None), (10, 150), (37, 90), (150, 10)])
async def test_all_nodes_know_of_devices_what_the_node_of_each_knows(
    database: Database, hidden: str, period: tuple[int | None, int | None]
) -> None:
    """Sealed ones, with late readings and merged blocks, one that is not sealed, and one that is unknown."""
    for device in range(1, 7):
        columns = Columns(START + SECOND * np.arange(200), *np.random.default_rng(device).normal(0, 1, (3, 200)))
        await stored(database, device, columns[: 195 - device])
        if device < 6:
            await sealed(database, device, START + 20 * device * SECOND, SMALL)
            await merge(database, device, SMALL)
            await stored(database, device, Columns(columns.times + 500, *columns.axes)[5:12])
    start, end = (None if at is None else START + at * SECOND for at in period)
    items = Items.together([*range(1, 8), 3], start, end)
    together = await cover._of_all_nodes(database, items, hidden, with_squares=True)
    assert len(together) == 8
    for place, row in enumerate(together):
        (alone,) = await cover._of_shard(database, items.at(np.array([place])), hidden, with_squares=True)
        if row is not None:
            assert_same(row, alone)
    if period == (None, None):
        assert [row for row in together if row is None] == []


def assert_same(row: Sequence[Any], alone: Sequence[Any]) -> None:
    """A row may end where the rest is None, and has its blocks in any order."""
    padded = [*row, *[None] * (len(alone) - len(row))]
    for one, other in zip(padded, alone, strict=True):
        assert in_order(one) == in_order(other)
    for first in (2, 6):  # level, first and count of the blocks at the ends, and of those inside
        blocks, others = (some[first : first + 3] for some in (padded, alone))
        if blocks[0] is not None:
            assert set(zip(*blocks, strict=True)) == set(zip(*others, strict=True))


def in_order(value: Any) -> Any:
    return sorted(value) if isinstance(value, np.ndarray | bytes) else value
