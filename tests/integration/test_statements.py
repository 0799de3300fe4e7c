"""Each statement of the product can be planned: by PostgreSQL, and by a Citus cluster if one is named.

The statements are found in the code (`tests/statements.py`), so that a new one is planned too.
"""

import re
from collections.abc import Iterator, Sequence
from itertools import combinations, product

import psycopg
from psycopg.errors import AmbiguousFunction, CannotCoerce, DatatypeMismatch, FeatureNotSupported, UndefinedFunction

from shared.readings.store import prepare
from tests import citus
from tests.conftest import Database
from tests.statements import Statement, statements

PLANNED = ("SELECT", "WITH", "INSERT", "UPDATE", "DELETE")
# Texts that statements are built of.
PARTS = {
    "deploy.doctor.cluster.nodes._STATE",
    "query_api.queue.claiming._CLAIM",
    "query_api.readings.row_stream._ROWS",
    "query_api.readings.summaries._DEVICE",
    "query_api.readings.summaries._EXPLAIN",
    "query_api.readings.summaries._FIELDS",
    "query_api.readings.summaries._ROWS",
    "query_api.statistics.blocks.reading.cover._FOUND",
    "query_api.statistics.blocks.reading.cover._LATE",
    "query_api.statistics.blocks.reading.cover._OF_ALL_NODES",
    "query_api.statistics.blocks.reading.cover._OF_NODE",
    "query_api.statistics.blocks.reading.cover._STATEMENT",
    "query_api.statistics.blocks.reading.first_and_last._FIRST",
    "query_api.statistics.blocks.reading.first_and_last._LAST",
    "query_api.statistics.blocks.reading.first_and_last._STATEMENT",
    "query_api.statistics.blocks.reading.slices._SLICES",
    "query_api.statistics.blocks.reading.tail._PIECE",
    "query_api.statistics.blocks.sealing.retiring._CHOSEN",
    "query_api.web.operating.dead_letters.counts._LETTERS",
    "query_api.worker.maintenance.activity._FIGURES",
    "query_api.worker.maintenance.activity._OF_NODES",
    "query_api.worker.maintenance.late_extents._MONTHS",
    "query_api.worker.sealing._COUNTED",
}
# Statements of a database without Citus: on a cluster, each has another one in the same module.
ONE_DATABASE = {
    "query_api.statistics.blocks.checking.device._DEVICES",
    "query_api.statistics.blocks.reading.cover._ONE_DATABASE[with_squares]",
    "query_api.statistics.blocks.reading.cover._ONE_DATABASE[without_squares]",
    "query_api.statistics.blocks.reading.first_and_last._PLAIN",
    "query_api.statistics.blocks.reading.tail._FIRST_PIECES",
    "query_api.statistics.blocks.sealing.retiring._DELETE[0]",
    "query_api.statistics.blocks.sealing.retiring._DELETE[1]",
    "query_api.statistics.blocks.sealing.retiring._DELETE[2]",
    "query_api.statistics.blocks.sealing.retiring._DELETE_LATE",
    "query_api.statistics.blocks.sealing.retiring._SOME_BLOCKS",
    "query_api.statistics.blocks.sealing.retiring._SOME_LATE",
    "query_api.worker.cleaning.orphaned_blocks._TAKE",
    "query_api.worker.maintenance.activity._WRITE",
    "query_api.worker.sealing._COUNT",
    "query_api.readings.summaries._SHORT",
}
# Statements of a cluster, with its tables and functions.
CLUSTER = re.compile(r"pg_dist_|citus_|create_distributed_table|run_command_on_|get_shard_id_for_|truncate_local")
WRONG_TYPE = (AmbiguousFunction, CannotCoerce, DatatypeMismatch, UndefinedFunction)
GUESSES = ("interval", "integer", "text")
"""Types of parameters that PostgreSQL cannot tell from the statement."""
VALUES = {
    "bigint": "1", "boolean": "true", "bytea": "'\\x00'", "double precision": "1.5", "inet": "'127.0.0.1'",
    "integer": "1", "interval": "'1 hour'", "json": "'{}'", "jsonb": "'{}'", "name": "'x'", "numeric": "1", "oid": "1",
    "regclass": "'readings'", "smallint": "1", "text": "'1'", "tid": "'(0,0)'",
    "timestamp with time zone": "'2026-11-28 12:00+00'", "tstzmultirange": "'{}'",
    "tstzrange": "'[2026-11-01,2026-11-28)'", "uuid": "'00000000-0000-0000-0000-000000000000'",
}  # fmt: skip


def planned() -> list[Statement]:
    """The different statements that can be planned."""
    by_text = {one.text: one for one in statements() if one.command in PLANNED and one.name not in PARTS}
    return [one for one in by_text.values() if citus.WORKERS or not CLUSTER.search(one.text)]


async def test_each_statement_can_be_planned(database: Database) -> None:
    await prepare(database)
    found = planned()
    assert len(found) > 250, "the search finds the statements"
    refused = {}
    for one in found:
        try:
            await plan(database, one)
        except psycopg.Error as error:
            if not (citus.WORKERS and isinstance(error, FeatureNotSupported) and one.name in ONE_DATABASE):
                refused[one.name] = str(error)
    assert refused == {}


@citus.on_a_cluster
async def test_a_cluster_needs_each_other_statement(database: Database) -> None:
    """What Citus can plan needs no second statement."""
    needless = []
    for one in statements():
        if one.name in ONE_DATABASE:
            try:
                await plan(database, one)
            except FeatureNotSupported:
                continue
            needless.append(one.name)
    assert needless == []


async def plan(database: Database, one: Statement) -> None:
    """Let the database plan the statement with a value for each parameter."""
    text, count = numbered(one.text)
    types = await prepared(database, text, count)
    arguments = ", ".join(value(kind) for kind in types)
    async with database.transaction(force_rollback=True):
        await database.execute(f"EXPLAIN EXECUTE one{f'({arguments})' if arguments else ''}".encode())


def numbered(text: str) -> tuple[str, int]:
    """Return the statement with the parameters $1, $2 and so on, and their number."""
    names: list[str | None] = []

    def number(found: re.Match[str]) -> str:
        name = found[1]
        if found[0] == "%%":
            return "%"
        if name is None or name not in names:
            names.append(name)
        return f"${len(names) if name is None else names.index(name) + 1}"

    return re.sub(r"%%|%s|%\((\w+)\)s", number, text), len(names)


async def prepared(database: Database, text: str, count: int) -> Sequence[str]:
    """Prepare the statement as `one`, and return the types of its parameters."""
    await database.execute("DEALLOCATE ALL", prepare=False)
    for kinds in guesses(count):
        try:
            await database.execute(f"PREPARE one{kinds} AS {text}".encode(), prepare=False)
            break
        except WRONG_TYPE as error:
            failure = error
    else:
        raise failure
    types = "SELECT parameter_types::text[] FROM pg_prepared_statements WHERE name = 'one'"
    ((found,),) = await (await database.execute(types, prepare=False)).fetchall()
    return list(found)


def guesses(count: int) -> Iterator[str]:
    """Yield types of the parameters: first none of them, then of one, then of two."""
    yield ""
    for number in (1, 2):
        for places in combinations(range(count), number):
            for kinds in product(GUESSES, repeat=number):
                chosen = dict(zip(places, kinds, strict=True))
                yield f"({', '.join(chosen.get(place, 'unknown') for place in range(count))})"


def value(kind: str) -> str:
    """Return a value of the type, as SQL."""
    if kind.endswith("[]"):
        return f"ARRAY[{VALUES[kind[:-2]]}]::{kind}"
    return f"{VALUES[kind]}::{kind}"
