"""Rows of a COPY that are read in blocks: whole rows, all of them, and the errors of the server."""

import asyncio
import struct
from typing import LiteralString

import pytest
from psycopg.errors import DivisionByZero, QueryCanceled

from query_api.readings.formats.text import CSV
from shared.readings.binary_copy import HEADER, TRAILER, next_block
from tests.conftest import Database

ROWS = "COPY (SELECT n, repeat('x', n %% 500) FROM generate_series(1, %(count)s) AS n) TO STDOUT"
LINES = [f"{n}\t{'x' * (n % 500)}\n" for n in range(1, 2001)]


@pytest.mark.parametrize("size", [1, 100, 4096, 10**9])
@pytest.mark.parametrize("count", [0, 1, 2000])
async def test_all_rows_in_blocks_of_whole_rows(database: Database, count: int, size: int) -> None:
    blocks, more = [], True
    async with database.cursor() as cursor, cursor.copy(ROWS, {"count": count}) as copy:
        while more:
            block, more = await next_block(copy, size)
            blocks.append(block.decode())
    assert "".join(blocks) == "".join(LINES[:count])
    assert all(block.endswith("\n") for block in blocks if block)
    assert all(size <= len(block) < size + 510 for block in blocks[:-1])
    assert await (await database.execute("SELECT 1")).fetchone() == (1,)


BINARY: LiteralString = "COPY (SELECT n FROM generate_series(1, 3) AS n) TO STDOUT (FORMAT binary)"


@pytest.mark.parametrize("size", range(1, 64))
async def test_the_trailer_is_in_the_last_block(database: Database, size: int) -> None:
    """Also if the block is full before it or with it."""
    blocks, more = [], True
    async with database.cursor() as cursor, cursor.copy(BINARY) as copy:
        while more:
            block, more = await next_block(copy, size, b"" if blocks else b"begun")
            blocks.append(block)
    rows = b"".join(struct.pack(">hii", 1, 4, n) for n in (1, 2, 3))
    assert b"".join(blocks) == b"begun" + HEADER + rows + TRAILER
    assert not any(block.endswith(TRAILER) for block in blocks[:-1])


async def read_all(database: Database, statement: LiteralString, **parameters: int) -> None:
    async with database.cursor() as cursor, cursor.copy(statement, parameters) as copy:
        while (await next_block(copy))[1]:
            pass


@pytest.mark.parametrize("before", [0, 1, 10_000])
async def test_an_error_amid_the_rows(database: Database, before: int) -> None:
    statement = "COPY (SELECT 1 / (n - %(before)s) FROM generate_series(0, 20000) AS n) TO STDOUT"
    with pytest.raises(DivisionByZero):
        await read_all(database, statement, before=before)
    assert await (await database.execute("SELECT 1")).fetchone() == (1,)


async def leave(database: Database) -> None:
    async with database.cursor() as cursor, cursor.copy(ROWS, {"count": 10**6}) as copy:
        block, more = await next_block(copy, 1000)
        assert (len(block) >= 1000, more) == (True, True)
        raise KeyError


async def test_a_copy_that_is_left(database: Database) -> None:
    """Its error is the caller's."""
    with pytest.raises(KeyError):
        await leave(database)
    assert await (await database.execute("SELECT 1")).fetchone() == (1,)


SLOW = """
    COPY (SELECT CASE WHEN n < 10000 THEN n::text ELSE pg_sleep(0.01)::text END FROM generate_series(1, 100000) AS n)
    TO STDOUT
"""


async def read_slowly(database: Database, begun: asyncio.Event) -> None:
    async with database.cursor() as cursor, cursor.copy(SLOW) as copy:
        await next_block(copy, 1)
        begun.set()
        await next_block(copy, 10**6)


async def test_a_cancelled_reader(database: Database) -> None:
    """The server's statement is cancelled, and the connection is usable."""
    begun = asyncio.Event()
    reading = asyncio.create_task(read_slowly(database, begun))
    await begun.wait()
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    assert await (await database.execute("SELECT 1")).fetchone() == (1,)


async def test_a_copy_that_the_server_cancels(database: Database) -> None:
    await database.execute("SET statement_timeout = '200ms'")
    with pytest.raises(QueryCanceled):
        await read_slowly(database, asyncio.Event())


NUMBERS = [
    "0", "-0", "1", "-1", "1000", "-1000", "5e-324", "-5e-324", "1e-5", "1.5e-5", "9.999999999999999e-5", "1e-4",
    "-1e-4", "1.0000000000000002e-4", "0.1", "123.456", "999.9999999999999", "-0.00012", "1e-300", "2.5e-7", "-3e-7",
]  # fmt: skip


async def test_numbers_have_a_point(database: Database) -> None:
    """Each is the shortest text of the number: that of PostgreSQL, and .0 if it has no point."""
    numbers = ", ".join(f"(float8 '{number}')" for number in NUMBERS)
    expression = CSV.columns.split("device_id, ")[1].split(" END, ")[0] + " END"
    query = f"SELECT x, x::text, {expression} FROM (VALUES {numbers}) AS given (x)"  # noqa: S608  # constants
    rows = await (await database.execute(query.encode())).fetchall()
    assert len(rows) == len(NUMBERS)
    for number, shortest, text in rows:
        assert (repr(float(text)), "." in text) == (repr(number), True)
        assert text.replace(".0e", "e").removesuffix(".0") == shortest
