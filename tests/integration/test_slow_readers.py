"""Clients that read a little of a stream and then pause delay no other client, and use no memory."""

import asyncio
import itertools
import statistics
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, contextmanager
from typing import Any

import httpx
import psutil
import psycopg
import pytest

from query_api.readings.formats.exports import ReaderBounds
from query_api.readings.formats.negotiation import STREAMS as FORMATS
from query_api.serve.tuning import DEFAULT, Tuning
from shared.settings import Settings
from tests.command import argv, environment
from tests.ports import free_port
from tests.roles import url_as
from tests.services import client_of, is_ready
from tests.waiting import eventually

STREAMED = [form.media_type for form in FORMATS]
CSV, NDJSON, ARROW, *_ = STREAMED
FILL = """
    INSERT INTO readings (device_id, recorded_at, received_at, x, y, z)
    SELECT %(device)s, timestamptz '2025-03-01 UTC' + n * interval '2 seconds', now(), sin(n) * 900, n %% 7, cos(n)
    FROM generate_series(0, %(count)s - 1) AS n
"""


async def fill(database: psycopg.AsyncConnection[Any], device: int, count: int) -> None:
    await database.execute("SELECT ensure_readings_partition(timestamptz '2025-03-01 UTC')")
    await database.execute(FILL, {"device": device, "count": count})
    await database.execute("SELECT find_device_extents()")


@asynccontextmanager
async def standing_still(
    api: httpx.AsyncClient, address: str, media_types: list[str], **headers: str
) -> AsyncIterator[None]:
    """Open streams, and read only the first block of each."""
    async with AsyncExitStack() as stack:
        for media_type in media_types:
            stream = await stack.enter_async_context(
                api.stream("GET", address, headers={"accept": media_type, **headers})
            )
            assert stream.status_code in (200, 206)
            blocks = await stack.enter_async_context(aclosing(stream.aiter_raw(1)))
            assert await anext(blocks)
        yield


async def test_other_requests_continue_while_streams_are_not_read(
    api: httpx.AsyncClient, device: int, database: psycopg.AsyncConnection[Any]
) -> None:
    await fill(database, device, 150_000)  # much more than the buffers in between hold
    address = f"/stats/{device}"
    most = list(itertools.islice(itertools.cycle((CSV, NDJSON, ARROW)), DEFAULT.streams.each))
    async with standing_still(api, address, most):
        answers = await asyncio.gather(
            api.get(f"{address}?limit=3"), api.get(f"{address}/latest"),
            api.get(f"{address}/series?points=10&end=2025-03-02"), api.get(f"{address}/buckets?limit=2"),
            api.get("/devices"), api.get("/health/ready"),
            api.post("/stats", json={"device_id": device, "x": 1, "y": 2, "z": 3}),
        )  # fmt: skip
        assert [answer.status_code for answer in answers] == [200] * 6 + [201]
        one_more = await api.get(address, headers={"accept": CSV})
        assert (one_more.status_code, one_more.json()["type"]) == (429, "/problems/too-many-requests")
    after = await api.get(f"{address}?end=2025-03-01T00:00:18Z", headers={"accept": CSV})
    assert after.text.count("\n") == 11  # there is a place again


@pytest.mark.serve(Tuning(readers=ReaderBounds(standstill_s=0.5)))
async def test_a_stream_whose_reader_reads_nothing_is_ended(
    api: httpx.AsyncClient, device: int, database: psycopg.AsyncConnection[Any]
) -> None:
    await fill(database, device, 150_000)
    address = f"/stats/{device}"
    async with standing_still(api, address, [CSV] * DEFAULT.streams.each):
        cursor = await eventually(lambda: database.execute(EXPORTING), lambda seen: seen.rowcount == 0)
        assert cursor.rowcount == 0  # with its COPY its snapshot is gone
        one_more = await api.get(f"{address}?limit=1", headers={"accept": CSV})
        assert one_more.status_code == 200


async def test_ranges_that_are_not_read_keep_their_places(
    api: httpx.AsyncClient, device: int, database: psycopg.AsyncConnection[Any]
) -> None:
    """Each range is in memory, up to 32 MiB, so memory would be unbounded without places."""
    await fill(database, device, 150_000)
    address, every = f"/stats/{device}.csv", {"range": "bytes=0-"}
    async with standing_still(api, address, [CSV] * DEFAULT.streams.each, **every):
        one_more = await api.get(f"{address}?limit=1", headers=every)
        assert one_more.status_code == 429
    await eventually(lambda: api.get(f"{address}?limit=1", headers=every), lambda answer: answer.status_code == 206)


@pytest.mark.serve(Tuning(readers=ReaderBounds(standstill_s=0.5)))
async def test_ranges_that_are_not_read_in_time_lose_their_places(
    api: httpx.AsyncClient, device: int, database: psycopg.AsyncConnection[Any]
) -> None:
    await fill(database, device, 150_000)
    address, every = f"/stats/{device}.csv", {"range": "bytes=0-"}
    async with standing_still(api, address, [CSV] * DEFAULT.streams.each, **every):
        await eventually(lambda: api.get(f"{address}?limit=1", headers=every), lambda answer: answer.status_code == 206)


@pytest.mark.serve(Tuning(readers=ReaderBounds(standstill_s=1.0, slowest=64 * 1024 * 1024)))
async def test_a_stream_whose_reader_is_too_slow_is_ended(
    api: httpx.AsyncClient, device: int, database: psycopg.AsyncConnection[Any]
) -> None:
    """The reader never pauses for standstill_s."""
    await fill(database, device, 400_000)
    async with api.stream("GET", f"/stats/{device}", headers={"accept": CSV}) as stream:
        blocks = stream.aiter_raw(64 * 1024)
        pauses = 0
        while (await database.execute(EXPORTING)).rowcount:
            await anext(blocks)
            await asyncio.sleep(0.1)
            pauses += 1
        assert pauses > 3
        with pytest.raises(httpx.RemoteProtocolError):
            await exhaust(blocks)


async def exhaust(blocks: AsyncIterator[bytes]) -> None:
    async for _ in blocks:
        pass


EXPORTING = (
    "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'devicestat api export'"
)


@contextmanager
def served(settings: Settings) -> Iterator[psutil.Process]:
    """Run `devicestat serve` as a process."""
    variables = environment(
        database_url=url_as(settings.database, "api"), http_port=settings.http_port, log_format="json"
    )
    with subprocess.Popen(argv("serve"), env=variables, stderr=subprocess.DEVNULL) as process:
        try:
            yield psutil.Process(process.pid)
        finally:
            process.terminate()


async def peak(process: psutil.Process, reading: "asyncio.Task[int]") -> int:
    """Return the peak memory of the process during the stream, in bytes."""
    most = 0
    while not reading.done():
        most = max(most, process.memory_info().rss)
        await asyncio.wait({reading}, timeout=0.02)
    return most


async def read(api: httpx.AsyncClient, address: str, media_type: str) -> int:
    """Read a stream to its end, and return its length."""
    async with api.stream("GET", address, headers={"accept": media_type}) as stream:
        assert stream.status_code == 200
        return sum([len(block) async for block in stream.aiter_raw()])


@pytest.mark.soak
@pytest.mark.parametrize("media_type", STREAMED)
async def test_memory_does_not_grow_with_a_million_readings(
    database_url: str, database: psycopg.AsyncConnection[Any], media_type: str
) -> None:
    """In addition to a short stream of the same type, which loads pyarrow for tables."""
    settings = Settings(database_url=database_url, http_port=free_port())
    await database.execute("INSERT INTO devices (id, key, name) VALUES (1, 'few', 'few'), (2, 'many', 'many')")
    await fill(database, 1, 100)
    await fill(database, 2, 1_000_000)
    with served(settings) as process:
        async with client_of(settings.http_port) as api:
            await eventually(lambda: is_ready(settings.http_port), bool)
            await read(api, "/stats/1", media_type)
            before = process.memory_info().rss
            reading = asyncio.create_task(read(api, "/stats/2", media_type))
            grown = await peak(process, reading) - before
    assert reading.result() > 10_000_000
    assert grown < 30_000_000


@pytest.mark.soak
async def test_slow_readers_do_not_slow_others(database_url: str, database: psycopg.AsyncConnection[Any]) -> None:
    """Compare the median of many requests with and without eight streams that are not read, in turns."""
    settings = Settings(database_url=database_url, http_port=free_port())
    await database.execute("INSERT INTO devices (id, key, name) VALUES (1, 'one', 'one')")
    await fill(database, 1, 300_000)

    async def median(api: httpx.AsyncClient) -> float:
        took = []
        for _ in range(300):
            began = time.perf_counter()
            assert (await api.get("/stats/1?limit=10")).status_code == 200
            took.append(time.perf_counter() - began)
        return statistics.median(took)

    with served(settings):
        async with client_of(settings.http_port) as api, client_of(settings.http_port) as slow:
            await eventually(lambda: is_ready(settings.http_port), bool)
            await median(api)
            ratios = []
            for _ in range(4):
                alone = await median(api)
                async with standing_still(slow, "/stats/1", [CSV] * DEFAULT.streams.each):
                    ratios.append(await median(api) / alone)
    assert min(ratios) < 2
