"""Long computations in parts, so that the event loop serves other requests between two parts.

The computations of all requests take turns, so an iteration of the event loop computes one part. A part takes some
milliseconds at most. A thread would not be better: Python code and msgspec hold the interpreter's lock.
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar
from weakref import WeakKeyDictionary

from psycopg import AsyncCursor

AT_ONCE = 500
"""Items of a part that take up to 5 us each."""
AT_ONCE_SLOW = 100
"""Items of a part that take up to 25 us each."""

Item = TypeVar("Item")
Row = TypeVar("Row")
Result = TypeVar("Result")
_turns: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock] = WeakKeyDictionary()


def turn() -> asyncio.Lock:
    """Return the lock that a computation of this event loop holds for one part and one iteration, in order."""
    return _turns.setdefault(asyncio.get_running_loop(), asyncio.Lock())


async def each(parts: Iterable[Item], compute: Callable[[Item], Result]) -> list[Result]:
    """Return what `compute` returns for each part, in order."""
    results = []
    for part in parts:
        async with turn():
            results.append(compute(part))
            await asyncio.sleep(0)
    return results


async def in_parts(
    items: Sequence[Item], compute: Callable[[Sequence[Item]], Result], at_once: int = AT_ONCE
) -> list[Result]:
    """Return what `compute` returns for each part of the items, in order. `at_once`: items of a part."""
    if len(items) <= at_once:
        return [compute(items)]
    return await each((items[start : start + at_once] for start in range(0, len(items), at_once)), compute)


async def mapped(items: Sequence[Item], convert: Callable[[Item], Result], at_once: int = AT_ONCE) -> list[Result]:
    """Return what `convert` returns for each item, in order."""
    parts = await in_parts(items, lambda part: list(map(convert, part)), at_once)
    return [result for part in parts for result in part]


async def mapped_rows(
    cursor: AsyncCursor[Row], convert: Callable[[Row], Result], at_once: int = AT_ONCE_SLOW
) -> list[Result]:
    """Return what `convert` returns for each row of the cursor, in order."""
    rows = await cursor.fetchmany(at_once)
    results = list(map(convert, rows))
    while len(rows) == at_once:
        await asyncio.sleep(0)
        async with turn():
            rows = await cursor.fetchmany(at_once)
            results += map(convert, rows)
            await asyncio.sleep(0)
    return results


async def fetched(cursor: AsyncCursor[Row], at_once: int = AT_ONCE) -> list[Row]:
    """Return all rows of the cursor."""
    return await mapped_rows(cursor, lambda row: row, at_once)
