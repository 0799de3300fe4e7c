"""Checks of the database and its schema, and of the services' work in it."""

from collections.abc import Awaitable, Callable
from functools import partial

from psycopg import Error as PostgresError
from psycopg.errors import InsufficientPrivilege

from deploy.doctor import blocks
from deploy.doctor.findings import Finding, Severity, ago, not_allowed
from deploy.terminal import counted, printable
from ingestor.delivery.journal import TOMBSTONE
from ingestor.session.processes import member
from shared.errors import DevicestatError
from shared.postgres.connections import Connection, address, connect, refusals_translated
from shared.postgres.errors import diagnose
from shared.postgres.migrate import check_schema, migrations
from shared.postgres.pooler import check_pooler, is_pooled
from shared.settings import Settings

OLDEST_POSTGRES = 150_000
"""PostgreSQL 15, in the form of server_version_num."""


async def examine_database(settings: Settings) -> list[Finding]:
    """Check the server and the schema; if the schema is right, also its content."""
    url = settings.database
    try:
        with refusals_translated():
            async with await connect(url, "doctor") as connection:
                schema = await _guarded("schema", _schema, connection)
                partitions = await _guarded("partitions", _partitions, connection)
                pooler = await _guarded("pooler", partial(_pooler, url=url), connection)
                about_server = [_server(connection, settings), *pooler, *await _durability(connection)]
                findings = [*about_server, *schema, *partitions]
                if schema[0].severity is Severity.OK:
                    findings += await _contents(connection, settings)
                return findings
    except DevicestatError as error:
        return [Finding(Severity.WRONG, "database", str(error))]


_Check = Callable[[Connection], Awaitable[list[Finding]]]


async def _guarded(what: str, check: _Check, connection: Connection) -> list[Finding]:
    try:
        return await check(connection)
    except InsufficientPrivilege as error:
        return [not_allowed(what, error)]
    except PostgresError as error:
        return [Finding(Severity.WRONG, what, str(diagnose(error)))]
    except DevicestatError as error:
        return [Finding(Severity.WRONG, what, str(error).strip().splitlines()[0])]


async def _contents(connection: Connection, settings: Settings) -> list[Finding]:
    checks: dict[str, _Check] = {
        "last commit": partial(_last_commits, settings=settings),
        "ingestors": _rivals,
        "dead letters": _dead_letters,
        **blocks.CHECKS,
    }
    return [finding for what, check in checks.items() for finding in await _guarded(what, check, connection)]


def _server(connection: Connection, settings: Settings) -> Finding:
    version = connection.info.server_version
    shown = f"PostgreSQL {version // 10_000}.{version % 10_000} at {address(settings.database)}"
    if version < OLDEST_POSTGRES:
        return Finding(Severity.WRONG, "database", f"{shown}: devicestat needs 15 or later")
    return Finding(Severity.OK, "database", shown)


async def _pooler(connection: Connection, url: str) -> list[Finding]:
    await check_pooler(connection, url)
    if not await is_pooled(connection):
        return []
    return [Finding(Severity.OK, "pooler", "a connection pooler in session mode")]


_UNSAFE = """
    SELECT string_agg(name, ', ' ORDER BY name DESC) FROM pg_settings
    WHERE name IN ('fsync', 'full_page_writes') AND setting = 'off'
"""


async def _durability(connection: Connection) -> list[Finding]:
    row = await (await connection.execute(_UNSAFE)).fetchone()
    if row is None or row[0] is None:
        return []
    advice = "acknowledged readings can be lost if the server crashes. Turn this on"
    return [Finding(Severity.WARNING, "durability", f"{row[0]} turned off: {advice}")]


async def _schema(connection: Connection) -> list[Finding]:
    await check_schema(connection)
    return [Finding(Severity.OK, "schema", f"version {migrations()[-1].version}, as this version of devicestat needs")]


_MISSING_MONTHS = """
    SELECT to_char(month, 'YYYY-MM')
    FROM unnest(ARRAY[now(), now() + interval '1 month']) AS month
    WHERE to_regclass('readings_' || to_char(month, 'YYYY_MM')) IS NULL
"""


async def _partitions(connection: Connection) -> list[Finding]:
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


_LAST_COMMITS = r"""
    SELECT client_id, now() - max(committed_at)
    FROM ingest_journal
    WHERE (client_id = %(alone)s
           OR starts_with(client_id, %(member)s) AND substr(client_id, length(%(member)s) + 1) ~ '^[0-9]+$')
      AND writer <> %(left)s
    GROUP BY client_id
    ORDER BY length(client_id), client_id
"""


async def _last_commits(connection: Connection, settings: Settings) -> list[Finding]:
    """Report each ingestor's last commit. An old one is no fault: the devices may be silent."""
    member_prefix = member(settings, 2, 2).mqtt_client_id.removesuffix("2")
    parameters = {"alone": settings.mqtt_client_id, "member": member_prefix, "left": TOMBSTONE}
    rows = await (await connection.execute(_LAST_COMMITS, parameters)).fetchall()
    texts = [f"{ago(age)} by {printable(client_id)}" for client_id, age in rows]
    return [Finding(Severity.OK, "last commit", text) for text in texts or [f"none yet by {settings.mqtt_client_id}"]]


_WRITERS = """
    SELECT client_id, count(DISTINCT writer)
    FROM ingest_journal
    WHERE committed_at > now() - interval '10 minutes' AND writer <> %s
    GROUP BY client_id
    HAVING count(DISTINCT writer) > 2
    ORDER BY client_id
"""


async def _rivals(connection: Connection) -> list[Finding]:
    """Report client ids that more ingestors used in ten minutes than a restart or a takeover explains."""
    rows = await (await connection.execute(_WRITERS, (TOMBSTONE,))).fetchall()
    advice = "does one restart repeatedly, or do several share this client id? Give each its own"
    return [
        Finding(
            Severity.WARNING,
            "ingestors",
            f"{count} have used the client id {printable(client_id)} within ten minutes: {advice}",
        )
        for client_id, count in rows
    ]


_DEAD_LETTERS = """
    SELECT key, coalesce(sum(value::bigint) FILTER (WHERE received_at > now() - interval '24 hours'), 0)::bigint,
           sum(value::bigint)::bigint, now() - max(received_at)
    FROM dead_letters, jsonb_each_text(reasons)
    GROUP BY key
    ORDER BY 2 DESC, 3 DESC, key
"""


async def _dead_letters(connection: Connection) -> list[Finding]:
    rows = await (await connection.execute(_DEAD_LETTERS)).fetchall()
    if not rows:
        return [Finding(Severity.OK, "dead letters", "none")]
    findings = []
    for reason, recent, total, age in rows:
        text = f"{reason}: {counted(recent, 'reading')} in the last 24 hours, {total:,} in all, the newest {ago(age)}"
        advice = f": `devicestat dead-letters list --reason {reason} --since 24h` shows them" if recent else ""
        findings.append(Finding(Severity.WARNING if recent else Severity.OK, "dead letters", text + advice))
    return findings
