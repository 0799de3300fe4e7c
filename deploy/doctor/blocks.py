"""Checks of the sealed blocks, from which analyses take exact figures (ADR 41).

CHECKS has the check of each subject. A service's role may run only some of them.
"""

from collections.abc import Awaitable, Callable, Mapping

from query_api.statistics.blocks.checking.device import Checker
from query_api.statistics.blocks.checking.progress import fence, late_readings, sealing
from query_api.statistics.blocks.checking.sampling import any_block
from shared.errors import DatabaseBusy
from shared.postgres.connections import Connection
from shared.status.findings import Finding, Severity
from shared.status.words import counted

CHECKED = 5
"""Blocks that are checked."""
TRIES = 5
"""Attempts to check one while it changes."""
_MEND = "`devicestat blocks check --mend` finds and mends all"


async def _some(connection: Connection) -> list[Finding]:
    """Compare some blocks with what they are built of."""
    keys = {key for key in [await any_block(connection) for _ in range(CHECKED)] if key is not None}
    try:
        problems = [problem for key in keys for problem in await Checker(connection, tries=TRIES).block(key)]
    except DatabaseBusy as error:
        return [Finding(Severity.OK, "blocks", f"not compared: {error}")]
    if problems:
        more = f" and {len(problems) - 1} more" if len(problems) > 1 else ""
        return [Finding(Severity.WRONG, "blocks", f"{problems[0]}{more}: {_MEND}")]
    return [Finding(Severity.OK, "blocks", f"{counted(len(keys), 'block')} compared with the readings")]


CHECKS: Mapping[str, Callable[[Connection], Awaitable[list[Finding]]]] = {
    "sealing": sealing,
    "late readings": late_readings,
    "fence": fence,
    "blocks": _some,
}
"""The progress of sealing, what delays it, and some blocks. The schema must be right."""
