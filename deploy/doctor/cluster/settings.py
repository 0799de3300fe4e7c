"""Settings of the nodes. Citus passes no setting of a session on, so each node needs its own."""

from collections.abc import Iterator, Sequence
from datetime import timedelta

from deploy.doctor.cluster.nodes import Node
from shared.postgres.connections import Connection
from shared.status.findings import Finding, Severity
from shared.status.words import lasting

TOLERATED = timedelta(seconds=15)
"""Longest interval of the recovery of prepared transactions without a warning."""
_INTERVAL = "SELECT setting::bigint * interval '1 ms' FROM pg_settings WHERE name = 'citus.recover_2pc_interval'"


async def recovery_interval(connection: Connection) -> timedelta | None:
    """Return how often the coordinator ends prepared transactions that a failure has left; None: never."""
    row = await (await connection.execute(_INTERVAL)).fetchone()
    return row[0] if row is not None and row[0] > timedelta() else None


def examine_settings(nodes: Sequence[Node], interval: timedelta | None) -> list[Finding]:
    """Check the interval of recovery, and the settings of each node that has reported them."""
    reported = [(str(node), node.state.settings) for node in nodes if node.state is not None]
    return [*_recovery(interval), *(finding for name, given in reported for finding in _of_node(name, given))]


def _recovery(interval: timedelta | None) -> Iterator[Finding]:
    advice = "`ALTER SYSTEM SET citus.recover_2pc_interval = '5s'` and `SELECT pg_reload_conf()` on the coordinator"
    if interval is None:
        text = "citus.recover_2pc_interval is -1: what a failed node leaves half committed stays so"
        yield Finding(Severity.WRONG, "nodes", f"{text}: {advice}")
    elif interval > TOLERATED:
        text = f"citus.recover_2pc_interval is {lasting(interval)}: after a failure of a node, batches wait that long"
        yield Finding(Severity.WARNING, "nodes", f"{text}: {advice}")


def _of_node(node: str, given: dict[str, str]) -> Iterator[Finding]:
    yield from _prepared_transactions(node, given)
    if given["wal_level"] != "logical":
        text = f"wal_level is {given['wal_level']} on {node}: its shards cannot be moved while readings are stored"
        yield Finding(Severity.WARNING, "nodes", f"{text}: set it to logical there, and restart the node")
    yield from _defaults(node, given)
    yield from _durability(node, given)


def _prepared_transactions(node: str, given: dict[str, str]) -> Iterator[Finding]:
    value, needed = int(given["max_prepared_transactions"]), int(given["max_connections"])
    if value < needed:
        text = f"max_prepared_transactions is {value} on {node}, and max_connections {needed}"
        advice = "a batch prepares a transaction on each connection. Set it to as many, and restart the node"
        yield Finding(Severity.WARNING if value else Severity.WRONG, "nodes", f"{text}: {advice}")


_LIMITS = ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout", "idle_session_timeout",
           "transaction_timeout")  # fmt: skip
"""Limits that would cut off the work of the coordinator on a node. Later releases of PostgreSQL have the last one."""


def _defaults(node: str, given: dict[str, str]) -> Iterator[Finding]:
    if given["jit"] != "off":
        text = f"jit is on at {node}: compilation takes longer than most reads"
        yield Finding(Severity.WARNING, "nodes", f"{text}: set it to off there")
    for name in _LIMITS:
        if given.get(name, "0") != "0":
            text = f"{name} is {given[name]} ms at {node}: it cuts off what services do there"
            yield Finding(Severity.WARNING, "nodes", f"{text}: set it to 0 there")


def _durability(node: str, given: dict[str, str]) -> Iterator[Finding]:
    """Services turn synchronous_commit on for themselves, but that does not reach the nodes."""
    names = ("synchronous_commit", "full_page_writes", "fsync")
    if unsafe := [name for name in names if given[name] == "off"]:
        advice = "acknowledged readings can be lost if the node crashes. Turn this on"
        text = f"{', '.join(unsafe)} turned off at {node}: {advice}"
        yield Finding(Severity.WARNING, "durability", text)
