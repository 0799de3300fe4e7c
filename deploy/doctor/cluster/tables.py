"""Distributed tables: together, ready to be moved, and their places."""

from collections.abc import Iterator

import msgspec

from shared.postgres.connections import Connection
from shared.postgres.distribution import TABLES, owners, without_identity
from shared.status.findings import Finding, Severity
from shared.status.words import counted

_AGAIN = "run `devicestat migrate --distributed`"

# Tables that are not in one colocation group with readings; NULL: not distributed.
_APART = """
    SELECT name, had.colocationid IS NOT NULL
    FROM unnest(%s::text[]) WITH ORDINALITY AS expected (name, position)
    LEFT JOIN pg_dist_partition AS had ON had.logicalrelid = to_regclass(name)
    JOIN pg_dist_partition AS readings ON readings.logicalrelid = 'readings'::regclass
    WHERE had.colocationid IS DISTINCT FROM readings.colocationid
    ORDER BY position
"""


async def examine_tables(connection: Connection) -> list[Finding]:
    """Check that all tables are distributed as readings is, and that shards can be moved."""
    findings = []
    for name, is_distributed in await (await connection.execute(_APART, (list(TABLES),))).fetchall():
        if is_distributed:
            call = f"SELECT update_distributed_table_colocation('{name}', colocate_with => 'readings')"
            advice = f"a device has its rows on several nodes. Stop the services, `{call}`, and start them"
            findings.append(Finding(Severity.WRONG, "distributed", f"{name} is not colocated with readings: {advice}"))
        else:
            findings.append(Finding(Severity.WRONG, "distributed", f"{name} is not distributed: {_AGAIN}"))
    if without := await without_identity(connection):
        text = f"no replica identity of {', '.join(without)}: no shard can be moved while readings are stored: {_AGAIN}"
        findings.append(Finding(Severity.WARNING, "distributed", text))
    if len(names := await owners(connection)) > 1:
        text = (
            f"the distributed tables belong to {', '.join(names)}: a move of a shard loses readings that are stored "
            "meanwhile. Move none, and run `devicestat migrate --roles --distributed`"
        )
        findings.append(Finding(Severity.WRONG, "distributed", text))
    return findings


class Place(msgspec.Struct, frozen=True):
    """Number of shards of readings on a node, which is the coordinator or another one."""

    name: str
    shards: int
    should_have: bool


_PLACES = """
    SELECT nodename || ':' || nodeport, count(shardid), shouldhaveshards
    FROM pg_dist_node LEFT JOIN (
        pg_dist_placement JOIN pg_dist_shard USING (shardid) JOIN pg_class ON pg_class.oid = logicalrelid
    ) ON pg_dist_placement.groupid = pg_dist_node.groupid AND pg_class.oid = 'readings'::regclass
    WHERE noderole = 'primary' AND isactive
    GROUP BY nodename, nodeport, shouldhaveshards
    ORDER BY nodename, nodeport
"""


async def examine_places(connection: Connection) -> list[Finding]:
    """Report the number of shards and nodes, and what a rebalance would change."""
    places = [Place(*row) for row in await (await connection.execute(_PLACES)).fetchall()]
    return [Finding(Severity.OK, "distributed", text) for text in texts(places)]


_REBALANCE = "docs/citus.md says how shards are moved"


def texts(places: list[Place]) -> Iterator[str]:
    """Yield how many shards are where. A place that should not have them, or has more than others, is no fault."""
    used = [place for place in places if place.shards]
    shards = counted(sum(place.shards for place in used), "shard")
    yield f"{shards} on {counted(len(used), 'node')}"
    for place in used:
        if not place.should_have:
            yield f"{counted(place.shards, 'shard')} on {place.name}, which should have none: {_REBALANCE}"
    numbers = [place.shards for place in places if place.should_have]
    if numbers and max(numbers) > min(numbers) + 1:
        each = ", ".join(f"{place.shards} on {place.name}" for place in places if place.should_have)
        yield f"shards are not even: {each}: {_REBALANCE}"
