"""State of the nodes that have shards: each is asked with one statement."""

from collections.abc import Sequence

import msgspec
from psycopg import sql

from deploy.doctor.cluster.expected import Grant, grants, roles_in_use
from shared.postgres.connections import Connection
from shared.status.findings import Finding, Severity

PATIENCE_S = 10
"""Time for a connection from the coordinator to a node; Citus's default is 30 s."""


class Prepared(msgspec.Struct, frozen=True):
    """A prepared transaction of this database. `age`: seconds."""

    name: str
    age: float


class Role(msgspec.Struct, frozen=True):
    """A role of the services, as the node knows it."""

    name: str
    exists: bool
    logs_in: bool
    connects: bool


class Lack(msgspec.Struct, frozen=True):
    """A privilege that a role has on the coordinator, and not on this number of the node's shards."""

    role: str
    privilege: str
    table: str
    shards: int


class State(msgspec.Struct, frozen=True):
    """What a node reports. `settings`: by name, as in pg_settings. `coordinator`: as it knows it, with the port."""

    settings: dict[str, str]
    prepared: Sequence[Prepared]
    roles: Sequence[Role]
    lacking: Sequence[Lack]
    coordinator: str | None = None


class Node(msgspec.Struct, frozen=True):
    """A node of the cluster other than the coordinator. `state`: None if it has not reported; `error`: why."""

    host: str
    port: int
    is_active: bool = True
    is_synced: bool = True
    state: State | None = None
    error: str = ""

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


SETTINGS = (
    "fsync", "full_page_writes", "synchronous_commit", "max_prepared_transactions", "max_connections",
    "wal_level", "jit", "statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout",
    "idle_session_timeout", "transaction_timeout", "superuser_reserved_connections",
)  # fmt: skip
_STATE = """
    SELECT json_build_object(
        'settings', (SELECT json_object_agg(name, setting) FROM pg_settings WHERE name = ANY ({settings}::text[])),
        'coordinator', (SELECT nodename || ':' || nodeport FROM pg_dist_node WHERE groupid = 0 AND noderole = 'primary'),
        'prepared', (
            SELECT coalesce(json_agg(json_build_object('name', gid, 'age', extract(epoch FROM now() - prepared))), '[]')
            FROM pg_prepared_xacts WHERE database = current_database()),
        'roles', (
            SELECT coalesce(json_agg(json_build_object(
                'name', name, 'exists', rolname IS NOT NULL, 'logs_in', coalesce(rolcanlogin, false),
                'connects', coalesce(has_database_privilege(pg_roles.oid, current_database(), 'CONNECT'), false))), '[]')
            FROM unnest({roles}::text[]) AS name LEFT JOIN pg_roles ON rolname = name),
        'lacking', (
            SELECT coalesce(json_agg(lack), '[]') FROM (
                SELECT role, privilege, "table", count(*) AS shards
                FROM unnest({granted_to}::text[], {privileges}::text[], {tables}::text[]) AS expected (role, privilege, "table")
                JOIN pg_roles ON rolname = role
                JOIN pg_dist_shard ON logicalrelid = to_regclass("table") JOIN pg_dist_placement USING (shardid)
                WHERE groupid = (SELECT groupid FROM pg_dist_local_group)
                  AND NOT has_table_privilege(pg_roles.oid, to_regclass(shard_name(logicalrelid, shardid)), privilege)
                GROUP BY role, privilege, "table" ORDER BY role, privilege, "table") AS lack))
"""  # noqa: E501  # one expression
_PATIENCE = f"SET citus.node_connection_timeout = '{PATIENCE_S}s'"
_ASK = """
    SELECT nodename, nodeport, isactive, metadatasynced, coalesce(success, false), coalesce(result, '')
    FROM pg_dist_node LEFT JOIN run_command_on_workers(%s) USING (nodename, nodeport)
    WHERE noderole = 'primary' AND groupid <> 0
    ORDER BY nodename, nodeport
"""


async def ask_nodes(connection: Connection) -> list[Node]:
    """Return the nodes with their states. The connection waits PATIENCE_S for each node from now on."""
    await connection.execute(_PATIENCE.encode())
    command = _command(connection, await roles_in_use(connection), await grants(connection))
    rows = await (await connection.execute(_ASK, (command,))).fetchall()
    return [_node(*row) for row in rows]


def _command(connection: Connection, roles: Sequence[str], granted: Sequence[Grant]) -> str:
    statement = sql.SQL(_STATE).format(
        settings=sql.Literal(list(SETTINGS)),
        roles=sql.Literal(list(roles)),
        granted_to=sql.Literal([grant.role for grant in granted]),
        privileges=sql.Literal([grant.privilege for grant in granted]),
        tables=sql.Literal([grant.table for grant in granted]),
    )
    return statement.as_string(connection)


def _node(host: str, port: int, is_active: bool, is_synced: bool, answered: bool, result: str) -> Node:
    if not answered:
        return Node(host, port, is_active, is_synced, error=result)
    return Node(host, port, is_active, is_synced, msgspec.json.decode(result, type=State))


def unavailable(nodes: Sequence[Node]) -> list[Finding]:
    """Report nodes that are not active, do not answer, or lack the metadata."""
    findings = []
    for node in nodes:
        call = f"SELECT citus_activate_node('{node.host}', {node.port})"
        if not node.is_active:
            text = f"{node} is not active, so its shards cannot be used: repair it, and `{call}` on the coordinator"
            findings.append(Finding(Severity.WRONG, "nodes", text))
        elif node.state is None:
            what = "batches with readings of its devices wait, and the broker queues"
            text = f"{node} does not answer: {node.error}. Meanwhile {what}: does it run, and let this role in?"
            findings.append(Finding(Severity.WRONG, "nodes", text))
        elif not node.is_synced:
            text = f"{node} does not have the metadata of the cluster: `{call}` on the coordinator"
            findings.append(Finding(Severity.WARNING, "nodes", text))
    return findings
