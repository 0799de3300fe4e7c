"""A connection that listens for NOTIFY, and is opened again each time it is lost."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import NoReturn

import structlog
from psycopg import sql

from shared.backoff import backoff
from shared.postgres.connections import RETRYABLE, Connection, Prepare, connect
from shared.postgres.errors import diagnose

Attend = Callable[[Connection], Awaitable[None]]
"""Uses the connection until it is lost."""
_log = structlog.get_logger()


async def _nothing(_: Connection) -> None:
    pass


async def listen(
    url: str,
    application: str,
    channels: Sequence[str],
    attend: Attend,
    *,
    prepare: Prepare = _nothing,
    failure_event: str | None = None,
) -> NoReturn:
    """Run `attend` on a connection that listens on the channels; after each loss run it on a new one, until cancelled.

    A NOTIFY that is sent between two connections is lost, so `attend` first looks for what it may have missed.
    `prepare` runs after LISTEN; the delay between attempts grows until it succeeds.
    `failure_event` is the log event of the first failure in a row; None logs nothing.
    """
    listens = sql.SQL("; ").join(sql.SQL("LISTEN {}").format(sql.Identifier(channel)) for channel in channels)
    waits, is_logged = backoff(), False
    while True:
        try:
            async with await connect(url, application) as connection:
                await connection.execute(listens)
                await prepare(connection)
                waits, is_logged = backoff(), False
                await attend(connection)
        except RETRYABLE as error:
            if failure_event is not None and not is_logged:
                _log.warning(failure_event, reason=str(diagnose(error)))
            is_logged = True
            await asyncio.sleep(next(waits))
