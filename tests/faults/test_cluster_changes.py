"""Nodes of a Citus cluster come and go, and shards move, in a stream of readings: each is stored once.

The commands are those of docs/citus.md.
"""

from collections.abc import Callable
from functools import partial

from psycopg.errors import InternalError_

from shared.postgres.connections import connect
from shared.postgres.roles import complete_nodes
from shared.settings import Settings
from tests import citus
from tests.conftest import Broker
from tests.faults.cluster_stream import ask, streaming
from tests.ingestion import IngestorProcess
from tests.waiting import eventually

pytestmark = citus.on_a_cluster

_PLACED = """
    SELECT nodeport, count(*)::int FROM citus_shards WHERE table_name = 'readings'::regclass GROUP BY nodeport
"""
_MOVE = """
    SELECT citus_move_shard_placement(shardid, %(from_host)s, %(from_port)s, %(to_host)s, %(to_port)s)
    FROM citus_shards WHERE table_name = 'readings'::regclass AND nodeport = %(from_port)s ORDER BY shardid LIMIT 1
"""
_SPLIT = """
    SELECT citus_split_shard_by_split_points(
        shardid, ARRAY[((shardminvalue::bigint + shardmaxvalue::bigint) / 2)::text],
        ARRAY(SELECT nodeid FROM pg_dist_node WHERE nodeport IN (%(from_port)s, %(to_port)s)), 'block_writes')
    FROM pg_dist_shard WHERE logicalrelid = 'readings'::regclass ORDER BY shardid LIMIT 1
"""
_BY_A_DROP = "could not find valid entry for shard", "could not acquire the lock required to move"
_ADD = "SELECT citus_add_node(%s, %s)"
_DRAIN = "SELECT citus_drain_node(%s, %s)"
_REMOVE = "SELECT citus_remove_node(%s, %s)"
_CLEAN = "CALL citus_cleanup_orphaned_resources()"
_LEFT_OVER = "SELECT count(*)::int FROM pg_dist_cleanup"
_REBALANCE = "SELECT citus_rebalance_start()", "SELECT citus_rebalance_wait()"
_OUTCOME = "SELECT DISTINCT state::text FROM citus_rebalance_status()"


def addresses() -> list[tuple[str, int]]:
    """The host and port of each worker node."""
    parts = [worker.rpartition(":") for worker in citus.WORKERS]
    return [(host, int(port)) for host, _, port in parts]


async def placed(url: str) -> dict[int, int]:
    """The number of shards of readings on each node that has some, by its port, which differs on one machine."""
    return {int(str(port)): int(str(count)) for port, count in await ask(url, _PLACED)}


Make = Callable[..., Settings]
Start = Callable[..., IngestorProcess]


async def test_a_shard_is_moved(make_settings: Make, broker: Broker, database_url: str, start_ingestor: Start) -> None:
    (_, from_port), (_, to_port), *_ = addresses()
    async with streaming(make_settings, broker, database_url, start_ingestor, {}) as running:
        before = await placed(database_url)
        await running.stream.grows(1_000)
        acknowledged = running.stream.acknowledged
        await eventually(partial(rearrange, database_url, _MOVE, between()), bool)
        assert running.stream.acknowledged > acknowledged, "readings arrive during the move"
        await running.delete()
        await running.stream.grows(1_000)
        after = await placed(database_url)
        assert after == {from_port: before[from_port] - 1, to_port: before[to_port] + 1}


async def test_a_shard_is_split(make_settings: Make, broker: Broker, database_url: str, start_ingestor: Start) -> None:
    async with streaming(make_settings, broker, database_url, start_ingestor, {}) as running:
        before = await placed(database_url)
        await running.stream.grows(1_000)
        await eventually(partial(rearrange, database_url, _SPLIT, between()), bool)
        await running.delete()
        await running.stream.grows(1_000)
        assert sum((await placed(database_url)).values()) == sum(before.values()) + 1


def between() -> dict[str, object]:
    """The places from which and to which a shard is moved."""
    (from_host, from_port), (to_host, to_port), *_ = addresses()
    return {"from_host": from_host, "from_port": from_port, "to_host": to_host, "to_port": to_port}


async def rearrange(url: str, statement: str, places: dict[str, object] | tuple[object, ...]) -> bool:
    """Move or split shards; return whether it was done: not while a month is dropped."""
    async with await connect(url, "test") as connection:
        try:
            await connection.execute(statement.encode(), places)
        except InternalError_ as error:
            assert any(text in str(error) for text in _BY_A_DROP)  # noqa: PT017
            return False
    return True


async def clean(url: str) -> list[tuple[object, ...]]:
    """Drop the shards that were moved, on their old node; return how many are left, as others use them."""
    await ask(url, _CLEAN)
    return await ask(url, _LEFT_OVER)


async def test_a_node_is_drained_and_removed_and_added_and_filled(
    make_settings: Make, broker: Broker, database_url: str, start_ingestor: Start
) -> None:
    stays, goes = addresses()[:2]
    async with streaming(make_settings, broker, database_url, start_ingestor, {}) as running:
        await running.stream.grows(1_000)
        await eventually(partial(rearrange, database_url, _DRAIN, goes), bool)
        assert await placed(database_url) == {stays[1]: citus.SHARDS}
        await running.delete()
        await eventually(partial(clean, database_url), lambda left: left == [(0,)])
        await ask(database_url, _REMOVE, *goes)
        await running.stream.grows(1_000)
        await ask(database_url, _ADD, *goes)
        async with await connect(database_url, "test") as connection:
            await complete_nodes(connection)  # as `devicestat migrate --roles` does
        for statement in _REBALANCE:
            await ask(database_url, statement)
        assert await ask(database_url, _OUTCOME) == [("finished",)]
        assert await placed(database_url) == {stays[1]: citus.SHARDS // 2, goes[1]: citus.SHARDS // 2}
        await running.stream.grows(1_000)
