"""Combine calls that arrive during another call into one."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping
from itertools import islice
from typing import Any, Generic, TypeVar

Key = TypeVar("Key")
Value = TypeVar("Value")
AT_MOST = 1000
"""Maximum number of keys of one call."""


class Gathered(Generic[Key, Value]):
    """Batching of calls: many tasks each ask for one key, and a function looks up many keys at once.

    One call runs at a time. Keys that arrive during a call wait for the next one, so every value was looked up after
    its key arrived.
    """

    def __init__(self, run: Callable[[Collection[Key]], Awaitable[Mapping[Key, Value]]]) -> None:
        self._run = run
        self._waiting: dict[Key, asyncio.Future[Value | None]] = {}
        self._running: asyncio.Task[None] | None = None

    async def of(self, key: Key) -> Value | None:
        """Return the value of the key, or None. Raises the exceptions of the function."""
        future = self._waiting.get(key)
        if future is None:
            future = self._waiting[key] = asyncio.get_running_loop().create_future()
        if self._running is None:
            self._running = asyncio.create_task(self._run_all(), name="gathered calls")
        return await asyncio.shield(future)

    async def _run_all(self) -> None:
        try:
            while self._waiting:
                keys = list(islice(self._waiting, AT_MOST))
                await self._run_one({key: self._waiting.pop(key) for key in keys})
        finally:
            self._running = None

    async def _run_one(self, waiting: Mapping[Key, asyncio.Future[Value | None]]) -> None:
        try:
            found = await self._run(waiting.keys())
        except BaseException as error:
            for future in waiting.values():
                _fail(future, error)
            if not isinstance(error, Exception):
                raise
        else:
            for key, future in waiting.items():
                if not future.done():
                    future.set_result(found.get(key))


def _fail(future: "asyncio.Future[Any]", error: BaseException) -> None:
    if isinstance(error, asyncio.CancelledError):
        future.cancel()
    else:
        future.set_exception(error)
        future.exception()  # marks it as retrieved, as the caller may have been cancelled
