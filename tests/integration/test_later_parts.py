"""A stream whose first part, on a Citus cluster, is already read: its reader stops, or the database fails.

On one machine it is one COPY, with the same outcome.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager

import httpx
import psycopg
import pytest

from query_api.readings.formats.exports import ReaderBounds
from query_api.readings.formats.text import CSV
from query_api.readings.row_stream import PartRows, Stretch, read_blocks
from query_api.serve.tuning import DEFAULT, Tuning
from tests import citus
from tests.conftest import Database
from tests.integration.test_row_stream import connected
from tests.integration.test_slow_readers import EXPORTING, exhaust, fill
from tests.waiting import eventually

PARTS = PartRows(20_000, 1_000_000)
COUNT = 300_000
"""Readings. The second part, of 40,000, is larger than the buffers of the connection, and so is each one behind it."""
ACCEPT = {"accept": CSV.media_type}
INCOMPLETE = (httpx.RemoteProtocolError, httpx.ReadError)
_END_EXPORTS = """
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE datname = current_database() AND application_name = 'devicestat api export'
"""
_END_ALL = """
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid()
"""


@asynccontextmanager
async def behind_the_first_part(api: httpx.AsyncClient, address: str) -> AsyncIterator[AsyncIterator[bytes]]:
    """Read a stream until rows of the second part have arrived, and yield the blocks behind."""
    async with api.stream("GET", address, headers=ACCEPT) as stream, aclosing(stream.aiter_raw()) as blocks:
        assert stream.status_code == 200
        lines = 0
        while lines <= PARTS.first + 1:  # with the header
            lines += (await anext(blocks)).count(b"\n")
        assert lines < COUNT / 2
        yield blocks


async def until_none_exports(database: Database) -> None:
    """Wait until no stream has a connection, and so a snapshot."""
    await eventually(lambda: database.execute(EXPORTING), lambda seen: seen.rowcount == 0)


async def expect_a_free_place(api: httpx.AsyncClient, address: str) -> None:
    """Expect that as many streams as ever may be read at once."""
    answers = await asyncio.gather(
        *(api.get(f"{address}?limit=3", headers=ACCEPT) for _ in range(DEFAULT.streams.each))
    )
    assert [(answer.status_code, answer.text.count("\n")) for answer in answers] == [(200, 4)] * DEFAULT.streams.each


@pytest.mark.serve(Tuning(parts=PARTS, readers=ReaderBounds(standstill_s=0.5)))
async def test_a_reader_that_stops_is_ended(api: httpx.AsyncClient, device: int, database: Database) -> None:
    await fill(database, device, COUNT)
    async with behind_the_first_part(api, f"/stats/{device}") as blocks:
        await until_none_exports(database)
        await expect_a_free_place(api, f"/stats/{device}")
        with pytest.raises(INCOMPLETE):
            await exhaust(blocks)


@pytest.mark.serve(Tuning(parts=PARTS))
async def test_a_client_that_disconnects_frees_its_place(
    api: httpx.AsyncClient, device: int, database: Database
) -> None:
    await fill(database, device, COUNT)
    async with behind_the_first_part(api, f"/stats/{device}"):
        pass
    await until_none_exports(database)
    await expect_a_free_place(api, f"/stats/{device}")


def end_exports(url: str) -> None:
    """End the connections of the API to the coordinator."""
    with psycopg.connect(url, autocommit=True) as connection:
        assert connection.execute(_END_EXPORTS).rowcount == 1


def end_connections_of_nodes(url: str) -> None:
    """End the connections of the coordinator to the other nodes."""
    for node in citus.nodes(url)[:-1]:
        with psycopg.connect(node, autocommit=True) as connection:
            connection.execute(_END_ALL)


FAILURES = [end_exports, pytest.param(end_connections_of_nodes, marks=citus.on_a_cluster)]


@pytest.mark.serve(Tuning(parts=PARTS))
@pytest.mark.parametrize("fail", FAILURES)
async def test_the_client_sees_a_failure(
    api: httpx.AsyncClient, device: int, database: Database, database_url: str, fail: Callable[[str], None]
) -> None:
    """As an incomplete response, never as an end."""
    await fill(database, device, COUNT)
    async with behind_the_first_part(api, f"/stats/{device}") as blocks:
        await asyncio.to_thread(fail, database_url)
        with pytest.raises(INCOMPLETE):
            await exhaust(blocks)
    await until_none_exports(database)
    await expect_a_free_place(api, f"/stats/{device}")


@pytest.mark.parametrize("where", ["coordinator", pytest.param("nodes", marks=citus.on_a_cluster)])
async def test_no_end_follows_a_failure_between_parts(database: Database, database_url: str, where: str) -> None:
    await fill(database, 1, 1_000)
    async with (
        connected(database_url, in_parts=True) as connection,
        aclosing(read_blocks(connection, CSV.copy("asc"), Stretch(1, None, None), 1, PartRows(5, 10))) as blocks,
    ):
        read = [await anext(blocks) for _ in range(7)]
        if where == "coordinator":
            await database.execute("SELECT pg_terminate_backend(%s::int)", (connection.info.backend_pid,))
        else:
            await asyncio.to_thread(end_connections_of_nodes, database_url)
        with pytest.raises(psycopg.Error):
            read += [block async for block in blocks]
    assert len(read) < 1_000
    assert all(more for _, more in read)
