"""What several commands do: read the settings, ask the database one thing."""

import asyncio
import os
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

import click

from shared.errors import DatabaseError

if TYPE_CHECKING:
    from shared.database import Connection
    from shared.settings import Settings

_Answer = TypeVar("_Answer")


def read_settings(ctx: click.Context, *require: str) -> "Settings":
    """The settings from the environment and --config. Raises SettingsError with every fault."""
    from shared.settings import load

    return load(os.environ, ctx.find_root().obj, require=require)


def ask_database(settings: "Settings", ask: Callable[["Connection"], Awaitable[_Answer]]) -> _Answer:
    """Asks on a connection of its own, and returns the answer. Raises DatabaseError."""
    import psycopg

    from shared.database import connect, translated

    async def asking() -> _Answer:
        async with await connect(settings.database, "command") as connection:
            return await ask(connection)

    try:
        with translated(settings.database):
            return asyncio.run(asking())
    except psycopg.Error as error:
        raise DatabaseError(f"PostgreSQL refuses: {str(error).strip().splitlines()[0]}") from error
