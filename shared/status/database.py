"""Checks of the database that need no more than a connection: durability, months, locks and connections."""

from shared.postgres.connections import Connection
from shared.status.findings import Finding, Severity

_UNSAFE = """
    SELECT string_agg(name, ', ' ORDER BY name DESC) FROM pg_settings
    WHERE name IN ('fsync', 'full_page_writes') AND setting = 'off'
"""


async def durability(connection: Connection) -> list[Finding]:
    """Check the settings without which a crash of the server loses acknowledged readings."""
    row = await (await connection.execute(_UNSAFE)).fetchone()
    if row is None or row[0] is None:
        return []
    advice = "acknowledged readings can be lost if the server crashes. Turn this on"
    return [Finding(Severity.WARNING, "durability", f"{row[0]} turned off: {advice}")]


_MISSING_MONTHS = """
    SELECT to_char(month, 'YYYY-MM')
    FROM unnest(ARRAY[now(), now() + interval '1 month']) AS month
    WHERE to_regclass('readings_' || to_char(month, 'YYYY_MM')) IS NULL
"""


async def partitions(connection: Connection) -> list[Finding]:
    """Check that the partitions of this month and the next exist, and the number of months."""
    missing = [row[0] for row in await (await connection.execute(_MISSING_MONTHS)).fetchall()]
    if missing:
        advice = "run `devicestat migrate`, and keep a worker running, which creates them in advance"
        return [Finding(Severity.WRONG, "partitions", f"none for {' and '.join(missing)}: {advice}")]
    return [
        Finding(Severity.OK, "partitions", "the partitions of this month and the next month exist"),
        *await _months(connection),
    ]


MANY_MONTHS = 200
"""More than the default of OLDEST, ten years, and the next months."""
READS_AT_ONCE = 20
"""Concurrent reads of devices with readings in every month; the lock table must have room for their locks."""
_MONTHS = """
    SELECT (SELECT count(*) FROM pg_inherits WHERE inhparent = 'readings'::regclass),
           current_setting('max_locks_per_transaction')::int,
           current_setting('max_connections')::int + current_setting('max_prepared_transactions')::int
"""


async def _months(connection: Connection) -> list[Finding]:
    """Check the number of months: a read locks each month of its device, and the month's index."""
    row = await (await connection.execute(_MONTHS)).fetchone()
    assert row is not None, "a SELECT without FROM has one row"
    return months_and_locks(*row)


def months_and_locks(months: int, locks: int, transactions: int) -> list[Finding]:
    """Check the number of months, and whether `locks` per transaction suffice for this number of `transactions`."""
    findings = []
    if months > MANY_MONTHS:
        advice = "lower OLDEST or set RETENTION, if devices with a wrong clock created them"
        findings.append(Finding(Severity.WARNING, "partitions", f"readings has {months} months: {advice}"))
    needed = -(-READS_AT_ONCE * 2 * months // transactions)
    if locks < needed:
        advice = f"set it to {max(256, needed)} in postgresql.conf and restart PostgreSQL"
        text = f"max_locks_per_transaction is {locks}, too small for {months} months: {advice}"
        findings.append(Finding(Severity.WARNING, "locks", text))
    return findings


FULL = 0.9
"""Share of the connections in use that is a warning."""


def connections(used: int, most: int) -> list[Finding]:
    """Check how many of the server's connections are in use."""
    if used < FULL * most:
        return []
    advice = "raise max_connections, or run fewer processes. docs/operating.md has the number that each needs"
    return [Finding(Severity.WARNING, "connections", f"{used} of {most} connections are in use: {advice}")]
