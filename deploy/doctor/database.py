"""Checks of the database and its schema, and of the services' work in it."""

from collections import Counter
from collections.abc import Awaitable, Callable
from functools import partial

from psycopg import Error as PostgresError
from psycopg.errors import InsufficientPrivilege

from deploy.doctor import blocks
from deploy.doctor.cluster import examine_cluster
from deploy.doctor.findings import not_allowed
from deploy.doctor.servers import examine_servers
from ingestor.delivery.journal import TOMBSTONE
from ingestor.session.processes import member
from query_api.queue.pending import pending
from shared.errors import DevicestatError
from shared.postgres.connections import Connection, address, connect, refusals_translated
from shared.postgres.errors import diagnose
from shared.postgres.migrate import check_schema, migrations
from shared.postgres.pooler import check_pooler, is_pooled
from shared.settings import Settings
from shared.status import table
from shared.status.database import durability, partitions
from shared.status.findings import Finding, Severity
from shared.status.judging import judge
from shared.status.process import State
from shared.status.words import ago, counted, printable

OLDEST_POSTGRES = 150_000
"""PostgreSQL 15, in the form of server_version_num."""


async def examine_database(settings: Settings) -> list[Finding]:
    """Check the server and the schema; if the schema is right, also its content."""
    url = settings.database
    try:
        with refusals_translated():
            async with await connect(url, "doctor") as connection:
                schema = await _guarded("schema", _schema, connection)
                months = await _guarded("partitions", partitions, connection)
                pooler = await _guarded("pooler", partial(_pooler, url=url), connection)
                about_server = [_server(connection, settings), *pooler, *await durability(connection)]
                findings = [*about_server, *await examine_servers(url), *schema, *months]
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
        "processes": _processes,
        "last commit": partial(_last_commits, settings=settings),
        "ingestors": _rivals,
        "dead letters": _dead_letters,
        **blocks.CHECKS,
        "distributed": examine_cluster,
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


async def _schema(connection: Connection) -> list[Finding]:
    await check_schema(connection)
    return [Finding(Severity.OK, "schema", f"version {migrations()[-1].version}, as this version of devicestat needs")]


async def _processes(connection: Connection) -> list[Finding]:
    """Check the processes that report their state, wherever they run."""
    processes = await table.select(connection)
    if faults := judge(processes, await pending(connection)):
        return [Finding(finding.severity, "processes", finding.text) for finding in faults]
    live = Counter(process.kind.value for process in processes if process.state is State.RUNNING)
    text = ", ".join(f"{kind} {number}" for kind, number in sorted(live.items()))
    return [Finding(Severity.OK, "processes", f"running: {text or 'none has reported'}")]


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
