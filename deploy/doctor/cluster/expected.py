"""Roles and privileges of the coordinator, which each node must have too."""

from collections.abc import Sequence

import msgspec

from shared.postgres.connections import Connection

_ROLES = """
    SELECT rolname FROM pg_roles
    WHERE rolname IN ('devicestat_ingestor', 'devicestat_api', 'devicestat_worker', 'devicestat_readings',
                      'devicestat_partitions')
      AND EXISTS (SELECT FROM pg_class
                  WHERE oid = 'readings'::regclass
                    AND relowner IN (to_regrole('devicestat_readings'), to_regrole('devicestat_partitions')))
    ORDER BY rolname
"""


async def roles_in_use(connection: Connection) -> Sequence[str]:
    """Return the roles of the services and of the owners of readings; none if the database does not use them."""
    return [name for (name,) in await (await connection.execute(_ROLES)).fetchall()]


class Grant(msgspec.Struct, frozen=True):
    """A privilege of a role on a distributed table. `table`: with its schema."""

    role: str
    privilege: str
    table: str


_GRANTS = """
    SELECT rolname, privilege_type, format('%I.%I', nspname, relname)
    FROM pg_dist_partition JOIN pg_class ON pg_class.oid = logicalrelid
    JOIN pg_namespace ON pg_namespace.oid = relnamespace
    CROSS JOIN aclexplode(relacl) AS granted JOIN pg_roles ON pg_roles.oid = grantee
    WHERE relnamespace = current_schema()::regnamespace
"""


async def grants(connection: Connection) -> Sequence[Grant]:
    """Return the privileges on all distributed tables. Those on single columns do not reach the nodes."""
    return [Grant(*row) for row in await (await connection.execute(_GRANTS)).fetchall()]
