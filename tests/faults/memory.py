"""Memory of a process."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import psutil

INTERVAL_S = 0.05
MIB = 1024 * 1024
BOUND = 250 * MIB
"""Limit for the ingestor while a million messages wait."""


class Watch:
    """Largest observed value, in bytes."""

    def __init__(self, pid: int) -> None:
        self._process = psutil.Process(pid)
        self.peak = self.look()

    def look(self) -> int:
        """Return the current resident set."""
        resident: int = self._process.memory_info().rss
        return resident

    async def watch(self) -> None:
        """Measure until cancelled."""
        while True:
            self.peak = max(self.peak, self.look())
            await asyncio.sleep(INTERVAL_S)


@asynccontextmanager
async def watched(pid: int) -> AsyncIterator[Watch]:
    """Measure the process's memory for the block."""
    watch = Watch(pid)
    watching = asyncio.create_task(watch.watch(), name="watch memory")
    try:
        yield watch
    finally:
        watching.cancel()
