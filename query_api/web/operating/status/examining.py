"""The part of the status that takes longer: sizes, coverage, dead letters, and the checks of `devicestat doctor`."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from typing import TypeVar

import msgspec
from psycopg import Error as PostgresError

from query_api.statistics.blocks.checking import progress
from query_api.statistics.blocks.checking.progress import Coverage, Late
from shared.errors import DatabaseUnreachable
from shared.postgres.connections import Connection
from shared.postgres.errors import diagnose
from shared.status import database
from shared.status.findings import Finding, Severity
from shared.status.words import counted

_Value = TypeVar("_Value")


class Size(msgspec.Struct, frozen=True):
    """Bytes of the database, and the months of readings."""

    examined_at: datetime
    size_bytes: int
    months: int


class Refused(msgspec.Struct, frozen=True):
    """Refused readings of one reason in the last hour and the last 24 hours."""

    reason: str
    last_hour: int
    last_day: int


class Examination(msgspec.Struct, frozen=True, kw_only=True):
    """The part that takes longer. A field is None if its check failed; the findings have the reason."""

    size: Size | None = None
    coverage: Coverage | None = None
    late: Late | None = None
    refused: Sequence[Refused] | None = None
    findings: Sequence[Finding] = ()


_SIZE = """
    SELECT now(), pg_database_size(current_database()),
           (SELECT count(*)::int FROM pg_inherits WHERE inhparent = 'readings'::regclass)
"""
_REFUSED = """
    SELECT key, coalesce(sum(value::bigint) FILTER (WHERE received_at > now() - interval '1 hour'), 0)::bigint,
           sum(value::bigint)::bigint
    FROM dead_letters CROSS JOIN LATERAL jsonb_each_text(reasons)
    WHERE received_at > now() - interval '24 hours'
    GROUP BY key
    ORDER BY 3 DESC, key
"""


async def examine(connection: Connection) -> Examination:
    """Run all checks, one after the other. Raises DatabaseUnreachable."""
    findings: list[Finding] = []

    async def run(what: str, check: Callable[[Connection], Awaitable[_Value]]) -> _Value | None:
        try:
            return await check(connection)
        except PostgresError as error:
            fault = diagnose(error)
            if isinstance(fault, DatabaseUnreachable):
                raise fault from error
            findings.append(Finding(Severity.WARNING, what, f"not checked: {fault}"))
            return None

    size = await run("size", _size)
    coverage = await run("sealing", progress.coverage)
    late = await run("late readings", progress.late)
    refused = await run("dead letters", _refused)
    for what, check in _CHECKS.items():
        findings += await run(what, check) or []
    findings += progress.judge_sealing(coverage) if coverage else []
    findings += progress.judge_late(late) if late else []
    findings += map(_finding, refused or ())
    return Examination(size=size, coverage=coverage, late=late, refused=refused, findings=findings)


_CHECKS: Mapping[str, Callable[[Connection], Awaitable[list[Finding]]]] = {
    "durability": database.durability,
    "partitions": database.partitions,
    "fence": progress.fence,
}


async def _size(connection: Connection) -> Size:
    row = await (await connection.execute(_SIZE)).fetchone()
    assert row is not None, "a SELECT without FROM has one row"
    return Size(*row)


async def _refused(connection: Connection) -> list[Refused]:
    return [Refused(*row) for row in await (await connection.execute(_REFUSED)).fetchall()]


def _finding(refused: Refused) -> Finding:
    number = counted(refused.last_day, "reading")
    advice = f"`devicestat dead-letters list --reason {refused.reason} --since 24h` shows them"
    return Finding(Severity.WARNING, "dead letters", f"{refused.reason}: {number} in the last 24 hours: {advice}")
