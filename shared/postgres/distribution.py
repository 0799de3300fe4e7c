"""Distribution of readings over the nodes of a Citus cluster (ADR 11).

`distribute` distributes the tables that belong to devices by device_id, so that all rows of a device are on one node.
All other tables stay on the coordinator, to which every service connects. `is_distributed` tells a service which of two
statements it needs, where one does not suit both engines.
"""

from collections.abc import Sequence, Set
from weakref import WeakKeyDictionary

import msgspec
from psycopg import sql

from shared.errors import DatabaseError
from shared.postgres.connections import Connection, refusals_translated
from shared.postgres.patience import patiently
from shared.postgres.roles import keep

TABLES = ("readings", "late_readings", "blocks", "block_values", "block_columns", "sealed_until")
"""The distributed tables. The first one has the shards, the others are colocated with it."""
SHARDS = 8
"""Two to four for each worker node that the cluster will ever have. Later, shards can only be split one by one, while
writes wait. A batch costs a round trip for each shard."""
LEAST_VERSION = 13
ROWS_PER_S = 300_000
"""Rows that Citus copies to the nodes in a second. Writes wait meanwhile."""

_IS_DISTRIBUTED = "SELECT is_distributed()"
_known: WeakKeyDictionary[Connection, bool] = WeakKeyDictionary()


async def is_distributed(connection: Connection) -> bool:
    """Return whether readings is distributed. It is asked once for each connection.

    A service that was connected while `distribute` ran must be restarted.
    """
    known = _known.get(connection)
    if known is None:
        row = await (await connection.execute(_IS_DISTRIBUTED)).fetchone()
        assert row is not None, "the function returns one row"
        known = _known[connection] = bool(row[0])
    return known


_PREPARED = """
    SELECT nodename || ':' || nodeport, success, result FROM run_command_on_workers(
        $$SELECT string_agg(gid, ' ') FROM pg_prepared_xacts WHERE database = current_database()$$)
"""


class Prepared(msgspec.Struct, frozen=True):
    """Transactions that are prepared on the nodes, by their ids. `silent`: nodes that did not answer."""

    names: Set[str] = frozenset()
    silent: Set[str] = frozenset()

    def __bool__(self) -> bool:
        return bool(self.names or self.silent)

    def still(self, later: "Prepared") -> "Prepared":
        """Return those of these that are prepared later too. Of a node that was silent, any may be one of these."""
        return later if self.silent else Prepared(self.names & later.names, later.silent)


async def prepared_transactions(connection: Connection) -> Prepared:
    """Return the transactions that are prepared on the nodes and not ended there; none without Citus.

    A transaction of the coordinator ends after those that it has prepared. If a node has failed meanwhile, its part
    ends later: Citus recovers it every recover_2pc_interval. Its rows cannot be seen until then.
    """
    if not await is_distributed(connection):
        return Prepared()
    rows = await (await connection.execute(_PREPARED)).fetchall()
    names = {name for _, answered, found in rows if answered for name in (found or "").split()}
    return Prepared(names, {node for node, answered, _ in rows if not answered})


class Cluster(msgspec.Struct, frozen=True):
    """A cluster that is able to distribute readings. `rows`: an estimate of the rows that must be copied."""

    nodes: Sequence[str]
    rows: int

    @property
    def seconds(self) -> int:
        """An estimate of the time for which writes wait."""
        return self.rows // ROWS_PER_S


class Distribution(msgspec.Struct, frozen=True):
    """How readings is distributed. `added`: tables that were not distributed before."""

    shards: int
    nodes: Sequence[str]
    added: Sequence[str]


_EXTENSION = "SELECT extversion FROM pg_extension WHERE extname = 'citus'"
_NODES = """
    SELECT nodename || ':' || nodeport, isactive AND shouldhaveshards, isactive FROM pg_dist_node
    WHERE noderole = 'primary' AND groupid <> 0 ORDER BY 1
"""
_IS_COORDINATOR = "SELECT citus_is_coordinator()"
_MAX_PREPARED = """
    SELECT 'the coordinator', current_setting('max_prepared_transactions')
    UNION ALL
    SELECT nodename || ':' || nodeport, result
    FROM run_command_on_workers('SHOW max_prepared_transactions')
"""
_ROWS = """
    SELECT coalesce(sum(greatest(reltuples, 0)), 0)::bigint FROM pg_class
    WHERE relkind = 'r' AND relnamespace = current_schema()::regnamespace
      AND (oid IN (SELECT inhrelid FROM pg_inherits WHERE inhparent = 'readings'::regclass) OR relname = ANY(%s))
"""


async def survey(connection: Connection) -> Cluster:
    """Return the cluster of this coordinator. Raises DatabaseError with what is missing. It adds no node itself."""
    row = await (await connection.execute(_EXTENSION)).fetchone()
    if row is None:
        raise DatabaseError(
            "the database has no extension citus: install Citus on each node, add it to shared_preload_libraries, "
            "CREATE EXTENSION citus in this database on each node, and add the nodes with citus_add_node"
        )
    if int(row[0].partition(".")[0]) < LEAST_VERSION:
        raise DatabaseError(f"the extension citus is of version {row[0]}: expected {LEAST_VERSION} or later")
    with refusals_translated():
        (is_coordinator,) = await (await connection.execute(_IS_COORDINATOR)).fetchone() or (False,)
        nodes = await (await connection.execute(_NODES)).fetchall()
    if not is_coordinator:
        raise DatabaseError(
            "this node is not the coordinator of the cluster: let DEVICESTAT_DATABASE_URL name the coordinator, and "
            "call citus_set_coordinator_host there"
        )
    usable = [name for name, is_usable, _ in nodes if is_usable]
    if inactive := [name for name, _, is_active in nodes if not is_active]:
        raise DatabaseError(f"nodes of the cluster are not active: {', '.join(inactive)}: call citus_activate_node")
    if not usable:
        raise DatabaseError("the cluster has no worker node: add one with citus_add_node")
    await _require_prepared_transactions(connection)
    (rows,) = await (await connection.execute(_ROWS, (list(TABLES),))).fetchone() or (0,)
    return Cluster(usable, rows)


async def _require_prepared_transactions(connection: Connection) -> None:
    without = [name for name, value in await (await connection.execute(_MAX_PREPARED)).fetchall() if value == "0"]
    if without:
        raise DatabaseError(
            f"max_prepared_transactions is 0 on {', '.join(without)}: set it to max_connections or more, and restart "
            "the node"
        )


_SHARDS = """
    SELECT logicalrelid::text, count(*) FROM pg_dist_partition JOIN pg_dist_shard USING (logicalrelid)
    WHERE logicalrelid = ANY(%s::regclass[]) GROUP BY logicalrelid
"""
_LOCK = "SELECT pg_advisory_xact_lock(hashtext('devicestat'), hashtext('schema_migrations'))"
# The order of the services: a sealing worker locks retiring_months and then sealed_devices.
_KEEP_OUT = """
    LOCK TABLE readings IN SHARE ROW EXCLUSIVE MODE;
    LOCK TABLE retiring_months IN SHARE ROW EXCLUSIVE MODE;
    LOCK TABLE sealed_devices IN SHARE ROW EXCLUSIVE MODE
"""
_DISTRIBUTE = "SELECT create_distributed_table(%s, 'device_id', shard_count => %s, colocate_with => 'none')"
_COLOCATE = "SELECT create_distributed_table(%s, 'device_id', colocate_with => 'readings')"
# A role that is no superuser can make an owner only of a role that may create tables on the node.
_GIVE_AWAY = """
    DO $$ BEGIN
        IF (SELECT relowner FROM pg_class WHERE oid = 'readings'::regclass) = to_regrole('devicestat_readings') THEN
            ALTER TABLE readings OWNER TO devicestat_partitions;
        END IF;
    END $$
"""
_COPY_SEALED = """
    INSERT INTO sealed_until (device_id, sealed) SELECT device_id, sealed FROM sealed_devices WHERE sealed > '-infinity'
"""
_TRIGGER = """
    CREATE TRIGGER copy_sealed AFTER UPDATE OF sealed OR DELETE ON sealed_devices
    FOR EACH ROW EXECUTE FUNCTION copy_sealed()
"""
# 'd' is the primary key, if there is one.
_WITHOUT_IDENTITY = """
    SELECT relname FROM pg_dist_partition JOIN pg_class ON pg_class.oid = logicalrelid
    WHERE relkind = 'r' AND relnamespace = current_schema()::regnamespace
      AND (relreplident = 'n' OR relreplident = 'd'
           AND NOT EXISTS (SELECT FROM pg_index WHERE indrelid = pg_class.oid AND indisprimary))
    ORDER BY relname
"""
_UNIQUE = """
    SELECT relname FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid
    WHERE indrelid = to_regclass(quote_ident(%s)) AND indisunique ORDER BY indisprimary DESC LIMIT 1
"""
_TRUNCATE = "SELECT truncate_local_data_after_distributing_table(%s::regclass)"


async def distribute(connection: Connection, shards: int | None = None) -> Distribution:
    """Distribute the tables, and return how they are distributed. Safe to run twice.

    The schema must be at its latest version, and the roles must be there if services have their own. `shards`: None:
    SHARDS, or those that readings has. Writes wait until the rows are on the nodes. Raises DatabaseError.
    """
    cluster = await survey(connection)
    had = await _shards(connection)
    if shards is not None and had and had.get(TABLES[0], shards) != shards:
        raise DatabaseError(
            f"readings is already distributed over {had[TABLES[0]]} shards, not {shards}: "
            "citus_split_shard_by_split_points splits a shard, as docs/citus.md says"
        )

    async def change() -> list[str]:
        await connection.execute(_LOCK)
        present = await _shards(connection)
        missing = [name for name in TABLES if name not in present]
        if missing:
            await connection.execute(_KEEP_OUT)
            for name in missing:
                await _distribute(connection, name, shards or SHARDS)
        if "sealed_until" in missing:
            await connection.execute(_COPY_SEALED)
            await connection.execute(_TRIGGER)
        await _identify(connection)
        return missing

    added = await patiently(connection, "the distribution of readings", change)
    for name in added:
        await connection.execute(_TRUNCATE, (name,))
    await keep(connection)
    return Distribution((await _shards(connection))[TABLES[0]], cluster.nodes, added)


async def _shards(connection: Connection) -> dict[str, int]:
    """Return the number of shards of each distributed table."""
    return dict(await (await connection.execute(_SHARDS, (list(TABLES),))).fetchall())


async def _distribute(connection: Connection, name: str, shards: int) -> None:
    if name == TABLES[0]:
        await connection.execute(_GIVE_AWAY)
        await connection.execute(_DISTRIBUTE, (name, shards))
    else:
        await connection.execute(_COLOCATE, (name,))


async def without_identity(connection: Connection) -> Sequence[str]:
    """Return the distributed tables without a replica identity: no shard can be moved while rows are written."""
    return [name for (name,) in await (await connection.execute(_WITHOUT_IDENTITY)).fetchall()]


_OWNERS = """
    SELECT DISTINCT relowner::regrole::text FROM pg_dist_partition JOIN pg_class ON pg_class.oid = logicalrelid
    WHERE relnamespace = current_schema()::regnamespace ORDER BY 1
"""


async def owners(connection: Connection) -> Sequence[str]:
    """Return the owners of the distributed tables. Of several, a move of a shard loses what is written meanwhile: Citus
    moves the tables of each owner by a subscription of its own, and does not wait for each of them to start."""
    return [name for (name,) in await (await connection.execute(_OWNERS)).fetchall()]


async def _identify(connection: Connection) -> None:
    """Give each table a replica identity: late_readings has no primary key, and months of earlier versions had none."""
    for name in await without_identity(connection):
        (index,) = await (await connection.execute(_UNIQUE, (name,))).fetchone() or (None,)
        statement = sql.SQL("ALTER TABLE {} REPLICA IDENTITY USING INDEX {}")
        await connection.execute(statement.format(sql.Identifier(name), sql.Identifier(index)))
