"""Whether the nodes know this server as their coordinator: one that was replaced may have been started again."""

from collections.abc import Sequence

from deploy.doctor.cluster.nodes import Node
from shared.postgres.connections import Connection
from shared.status.findings import Finding, Severity

_OWN = "SELECT nodename || ':' || nodeport FROM pg_dist_node WHERE groupid = 0 AND noderole = 'primary'"


async def examine_coordinator(connection: Connection, nodes: Sequence[Node]) -> list[Finding]:
    """Compare the address of the coordinator on each node with the one that this server has for itself."""
    row = await (await connection.execute(_OWN)).fetchone()
    own = row[0] if row else None
    others = {str(node): node.state.coordinator for node in nodes if node.state and node.state.coordinator}
    advice = "if this server was replaced, stop it at once: it ends transactions of the other, and readings are lost"
    return [
        Finding(Severity.WRONG, "nodes", f"{node} has {other} as its coordinator, and this server is {own}: {advice}")
        for node, other in others.items()
        if other != own
    ]
