"""`devicestat doctor` on a Citus cluster: each fault of a real cluster is named, with advice that repairs it."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from urllib.parse import urlsplit

import psycopg
import pytest

from deploy.doctor import Finding, Severity
from deploy.doctor.cluster import examine_cluster
from deploy.doctor.cluster.connections import Demand, demand, examine_connections
from deploy.doctor.cluster.nodes import Node, Prepared, State, ask_nodes
from deploy.doctor.cluster.prepared import examine_prepared
from deploy.doctor.cluster.roles import examine_logins
from deploy.doctor.cluster.settings import examine_settings
from deploy.doctor.cluster.tables import Place, texts
from shared.postgres.connections import connect
from shared.postgres.distribution import distribute
from shared.postgres.roles import SERVICES, keep
from tests import citus
from tests.conftest import Database
from tests.ports import free_port
from tests.roles import url_as

NODE = citus.WORKERS[0] if citus.WORKERS else ""
NODES = len(citus.WORKERS)
WELL = Finding(Severity.OK, "distributed", f"{citus.SHARDS} shards on {NODES} nodes")


async def examine(url: str) -> list[Finding]:
    """Examine the cluster on a new connection, without the durability of the tests' servers."""
    async with await connect(url, "doctor") as connection:
        found = await examine_cluster(connection)
    return [finding for finding in found if finding.what != "durability"]


async def only(url: str) -> Finding:
    """Return the one finding beside WELL."""
    first, *others = await examine(url)
    assert first == WELL
    (finding,) = others
    return finding


@contextmanager
def on_node(url: str) -> Iterator[psycopg.Connection]:
    """Connect to the test's database on the first node. Citus passes no statement of the block on."""
    with psycopg.connect(citus.nodes(url)[0], autocommit=True) as connection:
        connection.execute("SET citus.enable_ddl_propagation = off")
        yield connection


@contextmanager
def beside(url: str) -> Iterator[tuple[psycopg.Connection, str]]:
    """Connect to another database on the first node. Yields the name of the test's database as well."""
    with psycopg.connect(citus.at(citus.nodes(url)[0], "postgres"), autocommit=True) as connection:
        yield connection, urlsplit(url).path[1:]


def execute(connection: psycopg.Connection, statement: str) -> None:
    connection.execute(statement.encode())


@pytest.mark.plain_only("the database is distributed")
async def test_on_one_machine_nothing_is_found(database: Database) -> None:
    assert await examine_cluster(database) == []


@citus.on_a_cluster
@pytest.mark.parametrize("role", ["owner", "ingestor", "api", "worker"])
async def test_a_cluster_without_faults(role: str, database_url: str) -> None:
    url = database_url if role == "owner" else url_as(database_url, role)
    assert await examine(url) == [WELL]


@citus.on_a_cluster
async def test_a_node_that_is_not_active(database: Database, database_url: str) -> None:
    port = free_port()
    await database.execute("SELECT citus_add_inactive_node('127.0.0.1', %s)", (port,))
    found = await only(database_url)
    assert (found.severity, found.what) == (Severity.WRONG, "nodes")
    assert found.text.startswith(f"127.0.0.1:{port} is not active")
    assert f"`SELECT citus_activate_node('127.0.0.1', {port})`" in found.text
    await database.execute("SELECT citus_remove_node('127.0.0.1', %s)", (port,))
    assert await examine(database_url) == [WELL]


_END_ALL = "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE datname = %s"


@citus.on_a_cluster
async def test_a_node_that_does_not_answer(database_url: str) -> None:
    with beside(database_url) as (connection, name):
        execute(connection, f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
        connection.execute(_END_ALL, (name,))
        found = await only(database_url)
        execute(connection, f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
    assert (found.severity, found.what) == (Severity.WRONG, "nodes")
    assert found.text.startswith(f"{NODE} does not answer: failed to connect to {NODE}")
    assert await examine(database_url) == [WELL]


@citus.on_a_cluster
async def test_a_coordinator_that_was_replaced(database: Database, database_url: str) -> None:
    """It is started again, and the nodes know another one."""
    row = await (await database.execute("SELECT nodename, nodeport FROM pg_dist_node WHERE groupid = 0")).fetchone()
    assert row is not None
    move = "UPDATE pg_dist_node SET nodeport = %s WHERE groupid = 0"
    with on_node(database_url) as node:
        node.execute(move, (1,))
        found = await only(database_url)
        node.execute(move, (row[1],))
    assert (found.severity, found.what) == (Severity.WRONG, "nodes")
    assert found.text.startswith(f"{NODE} has {row[0]}:1 as its coordinator, and this server is {row[0]}:{row[1]}: if")
    assert "stop it at once" in found.text
    assert await examine(database_url) == [WELL]


@citus.on_a_cluster
async def test_a_node_without_the_metadata(database: Database, database_url: str) -> None:
    host, _, port = NODE.rpartition(":")
    await database.execute("SELECT stop_metadata_sync_to_node(%s, %s)", (host, int(port)))
    found = await only(database_url)
    assert (found.severity, found.what) == (Severity.WARNING, "nodes")
    assert found.text.startswith(f"{NODE} does not have the metadata")
    await database.execute("SELECT citus_activate_node(%s, %s)", (host, int(port)))
    assert await examine(database_url) == [WELL]


@citus.on_a_cluster
@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("jit", "on", "jit is on at NODE: compilation takes longer than most reads: set it to off there"),
        ("statement_timeout", "3s", "statement_timeout is 3000 ms at NODE"),
        ("lock_timeout", "10min", "lock_timeout is 600000 ms at NODE"),
    ],
)
async def test_a_setting_of_a_node(name: str, value: str, text: str, database_url: str) -> None:
    with beside(database_url) as (connection, database):
        execute(connection, f"ALTER DATABASE {database} SET {name} = '{value}'")
        found = await only(database_url)
        execute(connection, f"ALTER DATABASE {database} RESET {name}")
    assert (found.severity, found.what) == (Severity.WARNING, "nodes")
    assert found.text.startswith(text.replace("NODE", NODE))
    assert await examine(database_url) == [WELL]


RIGHT = {
    "fsync": "on", "full_page_writes": "on", "synchronous_commit": "on", "max_prepared_transactions": "100",
    "max_connections": "100", "wal_level": "logical", "jit": "off", "statement_timeout": "0", "lock_timeout": "0",
    "idle_in_transaction_session_timeout": "0", "idle_session_timeout": "0", "superuser_reserved_connections": "3",
}  # fmt: skip


def settings(interval: timedelta | None = timedelta(seconds=5), **changed: str) -> list[tuple[Severity, str, str]]:
    node = Node("n", 5432, state=State({**RIGHT, **changed}, [], [], []))
    return [(found.severity, found.what, found.text) for found in examine_settings([node], interval)]


def test_settings_that_need_a_restart() -> None:
    """A test cannot restart the nodes, so the values are given."""
    assert settings() == []
    ((severity, what, text),) = settings(max_prepared_transactions="99")
    assert (severity, what) == (Severity.WARNING, "nodes")
    assert text.startswith("max_prepared_transactions is 99 on n:5432, and max_connections 100")
    ((severity, _, _),) = settings(max_prepared_transactions="0")
    assert severity is Severity.WRONG
    ((severity, _, text),) = settings(wal_level="replica")
    assert severity is Severity.WARNING
    assert text.startswith("wal_level is replica on n:5432: its shards cannot be moved while readings are stored")
    ((severity, what, text),) = settings(synchronous_commit="off", fsync="off")
    assert (severity, what) == (Severity.WARNING, "durability")
    assert text.startswith("synchronous_commit, fsync turned off at n:5432: acknowledged readings can be lost")


@citus.on_a_cluster
async def test_each_writer_keeps_a_connection_for_each_shard(database: Database, database_url: str) -> None:
    before = await demand(database)
    async with await connect(database_url, "ingestor"), await connect(database_url, "api writer"):
        needed = await demand(database)
    assert needed.writers == before.writers + 2
    assert needed.shards == dict.fromkeys(citus.WORKERS, citus.SHARDS // NODES)
    assert needed.most is not None


def connections(writers: int, most: int | None) -> list[Finding]:
    return examine_connections([Node("n", 5432, state=State(RIGHT, [], [], []))], Demand(writers, {"n:5432": 4}, most))


def test_connections_for_the_shards() -> None:
    """A test cannot change the limits of shared nodes, so the values are given."""
    assert connections(24, 96) == []
    (found,) = connections(24, 95)
    kept = "24 connections of ingestors and APIs that store readings keep 96 to a node"
    assert (found.severity, found.what) == (Severity.WARNING, "connections")
    assert found.text.startswith(f"{kept}, and the coordinator opens 95 at most: ")
    assert "citus.max_shared_pool_size" in found.text
    (found,) = connections(25, None)
    assert "keep 100 to a node, and n:5432 has 97 for services: " in found.text
    assert len(connections(25, 99)) == 2


@pytest.mark.parametrize(
    ("interval", "severity", "text"),
    [
        (timedelta(seconds=60), Severity.WARNING, "citus.recover_2pc_interval is 60 seconds"),
        (None, Severity.WRONG, "citus.recover_2pc_interval is -1"),
    ],
)
def test_the_interval_of_recovery(interval: timedelta | None, severity: Severity, text: str) -> None:
    assert settings(timedelta(seconds=15)) == []
    ((found, what, said),) = settings(interval)
    assert (found, what) == (severity, "nodes")
    assert said.startswith(text)
    assert "`ALTER SYSTEM SET citus.recover_2pc_interval = '5s'`" in said


@citus.on_a_cluster
@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("left", "`ROLLBACK PREPARED 'left'` in this database of the node"),
        ("citus_99_1_1_1", "`SELECT recover_prepared_transactions()` on the coordinator"),  # of no node of this cluster
    ],
)
async def test_a_transaction_that_is_prepared_and_not_ended(
    name: str, advice: str, database: Database, database_url: str
) -> None:
    with on_node(database_url) as node:
        for statement in ("BEGIN", "SELECT pg_current_xact_id()", f"PREPARE TRANSACTION '{name}'"):
            execute(node, statement)
        try:
            assert await examine(database_url) == [WELL], "it may be about to end"
            (found,) = examine_prepared(await ask_nodes(database), None, tolerated=timedelta(0))
        finally:
            execute(node, f"ROLLBACK PREPARED '{name}'")
    assert (found.severity, found.what) == (Severity.WRONG, "prepared")
    assert found.text.startswith(f"1 transaction prepared on {NODE} and not ended, {name} for 0 seconds: ")
    assert advice in found.text
    assert examine_prepared(await ask_nodes(database), None, tolerated=timedelta(0)) == []


def test_a_prepared_transaction_has_the_interval_of_recovery_to_end() -> None:
    nodes = [Node("n", 5432, state=State(RIGHT, [Prepared("left", 20)], [], []))]
    assert len(examine_prepared(nodes, timedelta(seconds=5))) == 1
    assert examine_prepared(nodes, timedelta(seconds=60)) == []


_SHARD = """
    SELECT min(shard_name(logicalrelid, shardid)) FROM pg_dist_shard JOIN pg_dist_placement USING (shardid)
    WHERE logicalrelid = 'readings'::regclass AND groupid = (SELECT groupid FROM pg_dist_local_group)
"""


@citus.on_a_cluster
async def test_a_privilege_that_shards_lack(database: Database, database_url: str) -> None:
    with on_node(database_url) as node:
        (shard,) = node.execute(_SHARD).fetchone() or ("",)
        execute(node, f"REVOKE INSERT ON {shard} FROM devicestat_ingestor")
    found = await only(database_url)
    assert (found.severity, found.what) == (Severity.WRONG, "privileges")
    assert found.text.startswith(f"devicestat_ingestor has no INSERT on 1 shard of readings on {NODE}: ")
    assert await only(url_as(database_url, "worker")) == found, "each role may see it"
    await keep(database)
    assert await examine(database_url) == [WELL]


@citus.on_a_cluster
async def test_a_role_that_a_node_does_not_let_in(database: Database, database_url: str) -> None:
    with on_node(database_url) as node:
        # A clone is another database than that to which Citus passes grants on.
        connect_to = f"CONNECT ON DATABASE {node.info.dbname}"
        execute(node, f"GRANT {connect_to} TO devicestat_readings, {', '.join(SERVICES.values())}")
        execute(node, f"REVOKE {connect_to} FROM PUBLIC, devicestat_ingestor")
    found = await only(database_url)
    assert (found.severity, found.what) == (Severity.WRONG, "privileges")
    assert found.text.startswith(f"the role devicestat_ingestor may not connect to this database on {NODE}: ")
    (refused,) = await examine_logins(database, await ask_nodes(database))
    assert (refused.severity, refused.what) == (Severity.WRONG, "logins")
    assert refused.text.startswith(
        f"the coordinator cannot log in at {NODE} as devicestat_ingestor: permission denied for database"
    )
    async with await connect(url_as(database_url, "api"), "doctor") as other:
        assert await examine_logins(other, await ask_nodes(other)) == [], "it may act as no other role"
    with on_node(database_url) as node:
        execute(node, f"GRANT {connect_to} TO devicestat_ingestor")
    assert await examine(database_url) == [WELL]


@citus.on_a_cluster
@pytest.mark.parametrize("table", ["readings_2031_05", "late_readings", "blocks"])
async def test_a_table_without_a_replica_identity(table: str, database: Database, database_url: str) -> None:
    await database.execute("SELECT ensure_readings_partition('2031-05-05')")
    await database.execute(f"ALTER TABLE {table} REPLICA IDENTITY NOTHING".encode())
    found = await only(database_url)
    assert (found.severity, found.what) == (Severity.WARNING, "distributed")
    assert found.text.startswith(f"no replica identity of {table}: no shard can be moved while readings are stored")
    await distribute(database)
    assert await examine(database_url) == [WELL]


@citus.on_a_cluster
async def test_tables_of_several_owners(database: Database, database_url: str) -> None:
    """As before all distributed tables had one owner."""
    await database.execute("ALTER TABLE blocks OWNER TO CURRENT_USER")
    for table in ("readings", "late_readings"):
        await database.execute(f"ALTER TABLE {table} OWNER TO devicestat_readings".encode())
    found = await only(database_url)
    assert (found.severity, found.what) == (Severity.WRONG, "distributed")
    assert found.text.startswith(
        "the distributed tables belong to devicestat_partitions, devicestat_readings, postgres: a move of a shard "
    )
    await keep(database)
    assert await examine(database_url) == [WELL]


@citus.on_a_cluster
async def test_a_table_that_is_not_colocated_with_readings(database: Database, database_url: str) -> None:
    await database.execute("SELECT update_distributed_table_colocation('blocks', colocate_with => 'none')")
    found = await only(database_url)
    assert (found.severity, found.what) == (Severity.WRONG, "distributed")
    assert found.text.startswith("blocks is not colocated with readings")
    advice = "SELECT update_distributed_table_colocation('blocks', colocate_with => 'readings')"
    assert f"`{advice}`" in found.text
    await database.execute(advice.encode())
    assert await examine(database_url) == [WELL]


@citus.on_a_cluster
async def test_a_table_that_is_not_distributed(database: Database, database_url: str) -> None:
    await database.execute("SELECT undistribute_table('late_readings')")
    found = await only(database_url)
    assert (found.severity, found.what) == (Severity.WRONG, "distributed")
    assert found.text == "late_readings is not distributed: run `devicestat migrate --distributed`"
    await distribute(database)
    assert await examine(database_url) == [WELL]


@citus.on_a_cluster
async def test_a_node_that_should_have_no_shards(database: Database, database_url: str) -> None:
    host, _, port = NODE.rpartition(":")
    change = "SELECT citus_set_node_property(%s, %s, 'shouldhaveshards', %s)"
    await database.execute(change, (host, int(port), False))
    found = await only(database_url)
    assert (found.severity, found.what) == (Severity.OK, "distributed")
    assert found.text.startswith(f"{citus.SHARDS // NODES} shards on {NODE}, which should have none: ")
    await database.execute(change, (host, int(port), True))
    assert await examine(database_url) == [WELL]


def test_the_places_of_shards() -> None:
    coordinator = Place("c:1", 0, should_have=False)
    a, b = Place("a:1", 4, should_have=True), Place("b:1", 3, should_have=True)
    assert list(texts([coordinator, a, b])) == ["7 shards on 2 nodes"]
    first, second = texts([coordinator, a, Place("d:1", 0, should_have=True)])
    assert first == "4 shards on 1 node"
    assert second.startswith("shards are not even: 4 on a:1, 0 on d:1: ")
    first, second = texts([Place("c:1", 1, should_have=False), a])
    assert (first, second.partition(": ")[0]) == ("5 shards on 2 nodes", "1 shard on c:1, which should have none")
