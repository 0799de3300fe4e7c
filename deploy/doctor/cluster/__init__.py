"""Checks of a database that is distributed over the nodes of a Citus cluster (ADR 11). Elsewhere they find nothing.

- `tables` checks that the tables are distributed together, that shards can be moved online, and where they are.
- `nodes` asks each node for its state; `expected` has the roles and privileges that it must have.
- `coordinator` checks that the nodes know this server as their coordinator.
- `settings` judges the nodes' settings, and `prepared` their prepared transactions.
- `connections` checks that the nodes have a connection for each shard of each writer.
- `roles` checks the privileges of the services' roles on the nodes, and tries to log in there.
"""

from deploy.doctor.cluster.connections import demand, examine_connections
from deploy.doctor.cluster.coordinator import examine_coordinator
from deploy.doctor.cluster.nodes import Node, ask_nodes, unavailable
from deploy.doctor.cluster.prepared import examine_prepared
from deploy.doctor.cluster.roles import examine_logins, examine_privileges
from deploy.doctor.cluster.settings import examine_settings, recovery_interval
from deploy.doctor.cluster.tables import examine_places, examine_tables
from shared.postgres.connections import Connection
from shared.postgres.distribution import is_distributed
from shared.status.findings import Finding

__all__ = ["examine_cluster"]


async def examine_cluster(connection: Connection) -> list[Finding]:
    """Check the cluster; return no finding, after one query, if the database is not distributed."""
    if not await is_distributed(connection):
        return []
    nodes = await ask_nodes(connection)
    return [
        *await examine_places(connection),
        *await examine_tables(connection),
        *unavailable(nodes),
        *await examine_coordinator(connection, nodes),
        *await _about_nodes(connection, nodes),
    ]


async def _about_nodes(connection: Connection, nodes: list[Node]) -> list[Finding]:
    interval = await recovery_interval(connection)
    privileges = examine_privileges(nodes)
    return [
        *examine_settings(nodes, interval),
        *examine_prepared(nodes, interval),
        *examine_connections(nodes, await demand(connection)),
        *(privileges or await examine_logins(connection, nodes)),
    ]
