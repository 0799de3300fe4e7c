"""One snapshot of all statements of a read."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import LiteralString

import psycopg

from query_api.statistics.blocks.checking.suspects import suspect
from query_api.statistics.blocks.damage import DamagedBlocks
from shared.postgres.connections import Connection
from shared.postgres.distribution import is_distributed

# LOCK takes no snapshot. So the snapshot follows the lock: a DETACH … CONCURRENTLY that it does not contain waits for
# the lock, and each statement still finds the rows of the month.
_BEGIN: LiteralString = (
    "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY; LOCK TABLE ONLY readings IN ACCESS SHARE MODE"
)
# On a Citus cluster, LOCK of a distributed table is a statement for each node. There, a DETACH also locks
# retiring_months, a table of the coordinator. A connection to a node has a snapshot of its own, so a read uses one
# connection to each node.
_BEGIN_ON_CLUSTER: LiteralString = (
    "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY; LOCK TABLE retiring_months IN ACCESS SHARE MODE; "
    "SET LOCAL citus.max_adaptive_executor_pool_size = 1; SET LOCAL citus.force_max_query_parallelization = off"
)


async def begin(connection: Connection, settings: LiteralString = "") -> None:
    """Begin a snapshot, as `snapshot` does. The caller ends its transaction."""
    # Citus has no plan without values: `settings` are for other databases.
    statement = _BEGIN_ON_CLUSTER if await is_distributed(connection) else f"{_BEGIN}; {settings}"
    await connection.execute(statement, prepare=False)


@asynccontextmanager
async def snapshot(connection: Connection, settings: LiteralString = "") -> AsyncIterator[None]:
    """Read in one snapshot for the block.

    A worker that seals, settles, or drops a month meanwhile changes nothing that it sees.

    After DamagedBlocks, the worker is asked to check the blocks.

    The connection is not in a transaction. `settings`: SET LOCAL statements for the planner, which are sent with BEGIN.
    """
    await begin(connection, settings)
    try:
        yield
    except BaseException as error:
        with suppress(psycopg.Error):  # of a lost connection, whose error is raised already
            await connection.rollback()
            if isinstance(error, DamagedBlocks):
                await suspect(connection, error.keys)
        raise
    await connection.commit()
