"""Connections of writers to the nodes: each keeps one for each shard, and a batch that gets fewer takes longer."""

from collections.abc import Iterator, Mapping, Sequence

import msgspec

from deploy.doctor.cluster.nodes import Node
from shared.postgres.connections import Connection
from shared.status.findings import Finding, Severity
from shared.status.words import counted

_WRITERS = """
    SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND application_name IN ('devicestat ingestor', 'devicestat api writer')
"""
_SHARDS = """
    SELECT nodename || ':' || nodeport, count(*)
    FROM pg_dist_shard JOIN pg_dist_placement USING (shardid)
    JOIN pg_dist_node ON pg_dist_node.groupid = pg_dist_placement.groupid AND noderole = 'primary'
    WHERE logicalrelid = 'readings'::regclass GROUP BY 1
"""
# 0 stands for max_connections of the coordinator, and -1 for no limit. Only a superuser sees it.
_POOL = """
    SELECT CASE WHEN setting::int = 0 THEN current_setting('max_connections')::int
                WHEN setting::int > 0 THEN setting::int END
    FROM pg_settings WHERE name = 'citus.max_shared_pool_size'
"""


class Demand(msgspec.Struct, frozen=True):
    """Writers that are connected now, the shards of each node, and the connections that Citus opens to a node at most.

    `most`: None if it has no limit, or this role may not see it.
    """

    writers: int
    shards: Mapping[str, int]
    most: int | None

    def at(self, node: Node) -> int:
        """Return the connections that the writers keep at the node."""
        return self.writers * self.shards.get(str(node), 0)


async def demand(connection: Connection) -> Demand:
    """Ask the coordinator."""
    (writers,) = await (await connection.execute(_WRITERS)).fetchone() or (0,)
    (most,) = await (await connection.execute(_POOL)).fetchone() or (None,)
    return Demand(writers, dict(await (await connection.execute(_SHARDS)).fetchall()), most)


def examine_connections(nodes: Sequence[Node], needed: Demand) -> list[Finding]:
    """Check that the coordinator and each node allow the connections of the writers that are connected now."""
    found = [*_at_coordinator(nodes, needed), *(text for node in nodes for text in _at_node(node, needed))]
    return [Finding(Severity.WARNING, "connections", text) for text in found]


def _at_coordinator(nodes: Sequence[Node], needed: Demand) -> Iterator[str]:
    keep = max((needed.at(node) for node in nodes), default=0)
    if needed.most is not None and keep > needed.most:
        yield (
            f"{_kept(needed, keep)}, and the coordinator opens {needed.most} at most: batches then share connections, "
            "and take longer: raise citus.max_shared_pool_size there, or max_connections if it is 0"
        )


def _at_node(node: Node, needed: Demand) -> Iterator[str]:
    if node.state is None:
        return
    given = node.state.settings
    most = int(given["max_connections"]) - int(given["superuser_reserved_connections"])
    if needed.at(node) > most:
        yield (
            f"{_kept(needed, needed.at(node))}, and {node} has {most} for services: batches fail and are repeated: "
            "raise max_connections and max_prepared_transactions there, and restart the node"
        )


def _kept(needed: Demand, number: int) -> str:
    return f"{counted(needed.writers, 'connection')} of ingestors and APIs that store readings keep {number} to a node"
