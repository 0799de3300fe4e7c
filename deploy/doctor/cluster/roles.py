"""Roles of the services on the nodes: the coordinator logs in there as the role that it works for."""

from collections.abc import Iterator, Sequence

from psycopg import sql
from psycopg.errors import Diagnostic

from deploy.doctor.cluster.expected import roles_in_use
from deploy.doctor.cluster.nodes import Lack, Node, Role
from shared.postgres.connections import Connection
from shared.status.findings import Finding, Severity
from shared.status.words import counted

_MIGRATE = "run `devicestat migrate --roles`, which grants it again"


def examine_privileges(nodes: Sequence[Node]) -> list[Finding]:
    """Check that the roles may connect to each node, and have the coordinator's privileges on its shards."""
    reported = [(node, node.state) for node in nodes if node.state is not None]
    faults = [text for node, state in reported for text in (*_roles(node, state.roles), *_lacks(node, state.lacking))]
    return [Finding(Severity.WRONG, "privileges", text) for text in faults]


def _roles(node: Node, roles: Sequence[Role]) -> Iterator[str]:
    for role in roles:
        if not role.exists:
            yield f"the role {role.name} is not on {node}: `CREATE ROLE {role.name} LOGIN` there"
        elif not role.logs_in:
            yield f"the role {role.name} may not log in at {node}: `ALTER ROLE {role.name} LOGIN` there"
        elif not role.connects:
            yield f"the role {role.name} may not connect to this database on {node}: {_MIGRATE}"


def _lacks(node: Node, lacking: Sequence[Lack]) -> Iterator[str]:
    for one in lacking:
        table = one.table.rpartition(".")[2]
        yield f"{one.role} has no {one.privilege} on {counted(one.shards, 'shard')} of {table} on {node}: {_MIGRATE}"


# `SET ROLE` needs the option SET of a membership since PostgreSQL 16.
_MAY_SET = """
    SELECT pg_has_role(%s, CASE WHEN current_setting('server_version_num')::int < 160000 THEN 'MEMBER' ELSE 'SET' END)
"""
_TRY = "SELECT citus_check_connection_to_node(%s, %s)"
_BEFORE_REASON = "failed with the following error: "
_ADVICE = "let it in by pg_hba.conf there, and if that asks for a password, add it to pg_dist_authinfo"


async def examine_logins(connection: Connection, nodes: Sequence[Node]) -> list[Finding]:
    """Try to log in at each node as each role that this role may act as: a superuser as all, others as few.

    Nothing is tried unless all nodes answer, since each failure may take long.
    """
    if any(node.state is None for node in nodes):
        return []
    refused: dict[tuple[str, str], list[str]] = {}
    for role in await roles_in_use(connection):
        if await _may_set(connection, role):
            for node, why in (await _refusals(connection, role, nodes)).items():
                refused.setdefault((node, why), []).append(role)
    return [
        Finding(
            Severity.WRONG, "logins", f"the coordinator cannot log in at {node} as {', '.join(roles)}: {why}: {_ADVICE}"
        )
        for (node, why), roles in refused.items()
    ]


async def _may_set(connection: Connection, role: str) -> bool:
    row = await (await connection.execute(_MAY_SET, (role,))).fetchone()
    return row is not None and bool(row[0])


async def _refusals(connection: Connection, role: str, nodes: Sequence[Node]) -> dict[str, str]:
    """Return the nodes that refuse the role, and why: Citus warns with the reason."""
    reasons: list[str] = []

    def note(notice: Diagnostic) -> None:
        reasons.append(notice.message_primary or "")

    refusals: dict[str, str] = {}
    connection.add_notice_handler(note)
    try:
        async with connection.transaction():
            await connection.execute(sql.SQL("SET LOCAL ROLE {}").format(sql.Identifier(role)))
            for node in nodes:
                row = await (await connection.execute(_TRY, (node.host, node.port))).fetchone()
                if row is None or not row[0]:
                    refusals[str(node)] = _reason(reasons)
    finally:
        connection.remove_notice_handler(note)
    return refusals


def _reason(warnings: Sequence[str]) -> str:
    last = warnings[-1].partition(_BEFORE_REASON)[2] if warnings else ""
    return last.replace("FATAL:", "").strip().replace("\n", "; ") or "see the log of the coordinator"
