"""Functions that several commands use: read the settings, query the database, name the operator, stop at a signal."""

import asyncio
import os
import pwd
import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, TypeVar

import click

from shared.errors import SettingsError

if TYPE_CHECKING:
    from shared.access.audit import Actor
    from shared.postgres.connections import Connection
    from shared.settings import Settings

_Answer = TypeVar("_Answer")
_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_EMBEDDED = "`devicestat up` prints an export line for its embedded servers"


def read_settings(ctx: click.Context, *require: str) -> "Settings":
    """Return the settings from the environment and --config. Raises SettingsError with every fault."""
    from shared.serving.redaction import redact_tracebacks
    from shared.settings import load

    try:
        settings = load(os.environ, ctx.find_root().obj, require=require)
    except SettingsError as error:
        if any("_URL is not set" in fault for fault in error.faults):
            raise SettingsError([*error.faults, _EMBEDDED]) from error
        raise
    redact_tracebacks(settings)
    return settings


def ask_database(
    settings: "Settings", ask: Callable[["Connection"], Awaitable[_Answer]], *, patient: bool = False
) -> _Answer:
    """Call `ask` with a new connection and return its result. Raises DatabaseError.

    `patient`: wait up to START_TIMEOUT for an unreachable database.
    """
    from shared.postgres.connections import refusals_translated
    from shared.postgres.pooler import check_pooler
    from shared.postgres.starting import Patience, connect_patiently

    patience = Patience(settings.start_timeout if patient else timedelta())

    async def asking() -> _Answer:
        connection = await connect_patiently(settings.database, "command", patience, asyncio.Event(), _say)
        assert connection is not None, "nothing sets the event"
        async with connection:
            await check_pooler(connection, settings.database)
            return await ask(connection)

    with refusals_translated():
        return asyncio.run(asking())


def ask_schema(ctx: click.Context, ask: Callable[["Connection"], Awaitable[_Answer]]) -> _Answer:
    """Call `ask` as `ask_database` does, with a database that has this version of the schema."""
    settings = read_settings(ctx, "database_url")
    from shared.postgres.migrate import check_schema

    async def asking(connection: "Connection") -> _Answer:
        await check_schema(connection)
        return await ask(connection)

    return ask_database(settings, asking)


def _say(line: str) -> None:
    click.echo(line, err=True)


def operator() -> "Actor":
    """Return the actor for the audit log: the system's user name and the host."""
    from shared.access.audit import Actor

    try:
        user = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # as in a container with a numeric user
        user = str(os.getuid())
    return Actor(f"cli:{user}", socket.gethostname())


@asynccontextmanager
async def interruptible(patience_s: float) -> AsyncIterator[asyncio.Event]:
    """Provide an event that SIGINT and SIGTERM set; cancel the body if it runs on for the given seconds."""
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    try:
        async with asyncio.timeout(None) as patience:

            def interrupt() -> None:
                if not stop.is_set():
                    patience.reschedule(loop.time() + patience_s)
                stop.set()

            for number in _SIGNALS:
                loop.add_signal_handler(number, interrupt)
            try:
                yield stop
            finally:
                for number in _SIGNALS:
                    loop.remove_signal_handler(number)
    except TimeoutError:
        if not stop.is_set():
            raise
