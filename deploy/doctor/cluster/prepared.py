"""Prepared transactions that nobody has ended: their rows cannot be seen, and sealing waits for them."""

from collections.abc import Sequence
from datetime import timedelta

from deploy.doctor.cluster.nodes import Node, Prepared
from deploy.doctor.cluster.settings import TOLERATED
from shared.status.findings import Finding, Severity
from shared.status.words import counted, lasting, printable

_OF_CITUS = "citus_"


def examine_prepared(
    nodes: Sequence[Node], interval: timedelta | None, tolerated: timedelta = TOLERATED
) -> list[Finding]:
    """Report the prepared transactions of each node that are older than both `interval` and `tolerated`."""
    limit = max(interval or tolerated, tolerated).total_seconds()
    left = [(node, [one for one in node.state.prepared if one.age > limit]) for node in nodes if node.state is not None]
    return [_finding(node, old) for node, old in left if old]


def _finding(node: Node, old: Sequence[Prepared]) -> Finding:
    oldest = max(old, key=lambda one: one.age)
    age = lasting(timedelta(seconds=oldest.age))
    text = (
        f"{counted(len(old), 'transaction')} prepared on {node} and not ended, {printable(oldest.name)} for {age}: "
        "its rows cannot be seen, and sealing and the removal of devices wait. "
    )
    return Finding(Severity.WRONG, "prepared", text + _advice(oldest.name))


def _advice(name: str) -> str:
    if name.startswith(_OF_CITUS):
        return "`SELECT recover_prepared_transactions()` on the coordinator ends it; its log says why Citus has not"
    call = f"ROLLBACK PREPARED '{printable(name)}'"
    return f"Citus has not prepared it: `{call}` in this database of the node, unless its program still ends it"
