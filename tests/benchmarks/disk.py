"""Latency of the disk: a lower bound for a commit, and the cause of some stalls."""

import os
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SYNC_EVERY_S = 0.1
BLOCK = bytes(4096)
_sync = getattr(os, "fdatasync", os.fsync)  # macOS has no fdatasync


@contextmanager
def watched(directory: Path) -> Iterator[list[float]]:
    """Measure the milliseconds of an fdatasync of 4 KiB, ten times a second during the block."""
    taken: list[float] = []
    stop = threading.Event()
    with tempfile.TemporaryFile(dir=directory) as file:

        def watch() -> None:
            while not stop.wait(SYNC_EVERY_S):
                os.pwrite(file.fileno(), BLOCK, 0)
                began = time.monotonic()
                _sync(file.fileno())
                taken.append((time.monotonic() - began) * 1000)

        thread = threading.Thread(target=watch, name="disk")
        thread.start()
        try:
            yield taken
        finally:
            stop.set()
            thread.join()
