"""The API's connections to PostgreSQL: a pool for each kind of work, so that none waits behind another (ADR 30).

| pool | connections | work |
| --- | --- | --- |
| credentials | 2 | lookups of keys and tokens |
| probe | 1 | the check of the database for /health/ready |
| quick | 4 | one device, its latest reading, one request, changes |
| slow | 8 | immediate analyses, buckets, series, lists |
| store | 2 | storing readings |
| status | 2 | the state of this process, and what GET /status shows |

In addition, a process has up to 8 connections for exports, and one each for notifications, live readings, the
credentials of streams, and the broker's outbox: CONNECTIONS in all. PostgreSQL's max_connections must allow them
for each process of `devicestat serve`.
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager

import msgspec

from query_api.readings.write_batcher import WRITERS
from shared.postgres.connections import Pool, open_pool
from shared.postgres.session_settings import CACHED_NODES, PINNED
from shared.settings import Settings

CREDENTIALS = 2
PROBE = 1
QUICK = 4
SLOW = 8
STATUS = 2
EXPORTS = 8
"""Streams at once, each with a connection of its own."""
_SINGLE = 4
CONNECTIONS = CREDENTIALS + PROBE + QUICK + SLOW + WRITERS + STATUS + EXPORTS + _SINGLE
"""The most that one process has."""
POOL_WAIT_S = 3.0
"""Seconds that a request waits for a connection before a 503."""
CREDENTIALS_TIMEOUT_S = 3
"""Timeout of a credential lookup in seconds."""


class Pools(msgspec.Struct, frozen=True):
    """The pools of one process."""

    credentials: Pool
    probe: Pool
    quick: Pool
    slow: Pool
    store: Pool
    status: Pool


@asynccontextmanager
async def open_pools(settings: Settings, wait_s: float = POOL_WAIT_S) -> AsyncIterator[Pools]:
    """Open all pools, and close them at the end of the block."""
    async with AsyncExitStack() as stack:

        async def pool(
            purpose: str, size: int, timeout_s: int = settings.query_timeout, more: Mapping[str, str] = PINNED
        ) -> Pool:
            opened = open_pool(
                settings.database, purpose, max_size=size, patience=wait_s, statement_timeout=timeout_s, settings=more
            )
            return await stack.enter_async_context(opened)

        yield Pools(
            credentials=await pool("api credentials", CREDENTIALS, CREDENTIALS_TIMEOUT_S),
            probe=await pool("api probe", PROBE, CREDENTIALS_TIMEOUT_S),
            quick=await pool("api", QUICK),
            slow=await pool("api slow", SLOW),
            store=await pool("api writer", WRITERS, more=CACHED_NODES),
            status=await pool("api status", STATUS),
        )
