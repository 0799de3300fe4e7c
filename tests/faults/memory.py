"""How much memory a process takes."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import psutil

INTERVAL_S = 0.05
MIB = 1024 * 1024
BOUND = 250 * MIB
"""What the ingestor may take while a million messages wait."""


class Watch:
    """The most that was seen, in bytes."""

    def __init__(self, pid: int) -> None:
        self._process = psutil.Process(pid)
        self.peak = self.look()

    def look(self) -> int:
        """The resident set of now."""
        resident: int = self._process.memory_info().rss
        return resident

    async def watch(self) -> None:
        """For ever."""
        while True:
            self.peak = max(self.peak, self.look())
            await asyncio.sleep(INTERVAL_S)


@asynccontextmanager
async def watched(pid: int) -> AsyncIterator[Watch]:
    """Looks at the process's memory until the end of the block."""
    watch = Watch(pid)
    watching = asyncio.create_task(watch.watch(), name="watch memory")
    try:
        yield watch
    finally:
        watching.cancel()
