"""Read the next part while the caller processes one: the database and the process work at the same time."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable
from contextlib import suppress
from typing import TypeVar

Part = TypeVar("Part")


async def read_ahead(reads: Iterable[Callable[[], Coroutine[None, None, Part]]]) -> AsyncGenerator[Part, None]:
    """Yield the result of each read. The next one runs meanwhile, one at a time.

    The connection that they read from is not used by others until this generator is closed (`contextlib.aclosing`).
    """
    running: asyncio.Task[Part] | None = None
    try:
        for read in reads:
            part = None if running is None else (await running,)
            running = asyncio.create_task(read(), name="read ahead")
            if part is not None:
                yield part[0]
        if running is not None:
            yield await running
    finally:
        if running is not None and not running.done():
            running.cancel()
            with suppress(asyncio.CancelledError):
                await running
