"""Seals a device as the worker does: `python -m tests.benchmarks.sealer URL DEVICE UNTIL`.

It prints JSON: the readings sealed, the CPU time in seconds, and the peak memory in MB. It imports what a worker
imports, and nothing else, so that its memory is that of a worker.
"""

import asyncio
import json
import os
import sys
import time

from query_api.statistics.blocks.sealing.announcing import announce, wait_for_writers
from query_api.statistics.blocks.sealing.merging import merge
from query_api.statistics.blocks.sealing.sealing import seal_step
from query_api.worker import service
from shared.postgres.connections import connect
from tests.benchmarks.process import peak_mb

assert service


async def seal(url: str, device: int, until: int) -> dict[str, float]:
    """Seal and merge. `until`: in microseconds since 1970."""
    began, total, is_done = time.process_time(), 0, False
    async with await connect(url, "bench") as connection:
        announced = await announce(connection, {device: until})
        assert announced == {device}
        await wait_for_writers(connection)
        while not is_done:
            step = await seal_step(connection, device, until)
            await merge(connection, device)
            total, is_done = total + step.readings, step.is_done
    return {"readings": total, "cpu": time.process_time() - began, "memory": peak_mb(os.getpid())}


if __name__ == "__main__":
    url, device, until = sys.argv[1:]
    print(json.dumps(asyncio.run(seal(url, int(device), int(until)))))  # noqa: T201
