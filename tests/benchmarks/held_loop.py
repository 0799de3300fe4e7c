"""The API with a measurement of its event loop: `python -m tests.benchmarks.held_loop`, with settings as the API's.

For each line on its standard input it prints for how many milliseconds at most the event loop was held since the last,
and how many of CPU time its thread took at most between two turns: on a busy machine that is less.
"""

import asyncio
import os
import sys
import threading
import time

from query_api.serve.app import serve
from shared.serving.service import run
from shared.serving.telemetry import configure_logging
from shared.settings import load

BEAT_S = 0.001


class Holds:
    """The longest hold of the event loop."""

    def __init__(self) -> None:
        self._longest_s = self._most_cpu_s = 0.0

    async def run(self) -> None:
        """Measure until cancelled, by how late a timer is."""
        loop = asyncio.get_running_loop()
        while True:
            began, cpu_began = loop.time(), time.thread_time()
            await asyncio.sleep(BEAT_S)
            self._longest_s = max(self._longest_s, loop.time() - began - BEAT_S)
            self._most_cpu_s = max(self._most_cpu_s, time.thread_time() - cpu_began)

    def answer(self) -> None:
        """Print the longest hold for each line, until the input ends."""
        for _ in sys.stdin:
            sys.stdout.write(f"{self._longest_s * 1e3:.2f} {self._most_cpu_s * 1e3:.2f}\n")
            self._longest_s = self._most_cpu_s = 0.0
            sys.stdout.flush()


async def _serve(stop: asyncio.Event) -> None:
    settings = load(os.environ)
    configure_logging(settings)
    holds = Holds()
    threading.Thread(target=holds.answer, name="answers", daemon=True).start()
    measuring = asyncio.create_task(holds.run(), name="holds")
    await serve(settings, stop)
    measuring.cancel()


if __name__ == "__main__":
    run(_serve)
