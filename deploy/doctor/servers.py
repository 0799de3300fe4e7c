"""Of several servers in the database's URL, one may take writes: the others are its standbys.

A primary that was replaced and is started again takes writes as well. Services may then connect to either.
"""

import asyncio
from collections.abc import Sequence
from typing import Any

import msgspec
from psycopg import pq
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from shared.errors import DevicestatError
from shared.postgres.connections import address, connect, refusals_translated
from shared.status.findings import Finding, Severity

_ASK = """
    SELECT NOT pg_is_in_recovery(), pg_postmaster_start_time()::text,
           (SELECT system_identifier::text FROM pg_control_system()),
           EXISTS (SELECT FROM pg_stat_wal_receiver),
           CASE WHEN NOT pg_is_in_recovery() THEN left(pg_walfile_name(pg_current_wal_lsn()), 8) ELSE '' END
"""


class Server(msgspec.Struct, frozen=True):
    """`started`: tells servers apart, of which one may have several addresses. `error`: why it has not answered.

    `system`: that of a primary and its standbys. `receives`: whether a primary streams to it. `timeline`: of a server
    that takes writes, in hexadecimal digits; a promotion adds one.
    """

    address: str
    takes_writes: bool = False
    started: str = ""
    system: str = ""
    receives: bool = False
    timeline: str = ""
    error: str = ""


async def examine_servers(url: str) -> list[Finding]:
    """Ask each server of the URL. Return no finding if it names one server only."""
    urls = each_server(url)
    if len(urls) == 1:
        return []
    servers = await asyncio.gather(*map(_ask, urls))
    findings = [*judge(servers), *(_away(server) for server in servers if server.error)]
    return [*findings, *_choice(url)] if findings else []


def each_server(url: str) -> list[str]:
    """Return a connection string for each server of the URL."""
    effective = _effective(url)
    others: dict[str, Any] = {**conninfo_to_dict(url), "target_session_attrs": "any"}
    hosts, addresses, ports = (str(effective.get(name) or "").split(",") for name in ("host", "hostaddr", "port"))
    count = max(len(hosts), len(addresses))
    columns = [column * count if len(column) == 1 else column for column in (hosts, addresses, ports)]
    return [
        make_conninfo(**{**others, "host": host or None, "hostaddr": at or None, "port": port or None})
        for host, at, port in zip(*columns, strict=True)
    ]


def _effective(url: str) -> dict[str, object]:
    """Return the parameters of the URL, and those that libpq takes from PGHOST and other variables."""
    defaults = {one.keyword.decode(): one.val.decode() for one in pq.Conninfo.get_defaults() if one.val}
    return {**defaults, **conninfo_to_dict(url)}


async def _ask(url: str) -> Server:
    try:
        with refusals_translated():
            async with await connect(url, "doctor") as connection:
                row = await (await connection.execute(_ASK)).fetchone()
    except DevicestatError as error:
        return Server(address(url), error=str(error))
    assert row is not None, "a SELECT without FROM has one row"
    return Server(address(url), *row)


def judge(servers: Sequence[Server]) -> list[Finding]:
    """Say which of the servers take writes, and what is wrong with that. Those that have not answered are left out."""
    asked = list({server.started: server for server in servers if server.started}.values())
    writers = sorted((server for server in asked if server.takes_writes), key=lambda server: server.timeline)
    standbys = [server for server in asked if not server.takes_writes]
    if len(writers) > 1:
        return [Finding(Severity.WRONG, "servers", _rivals(writers))]
    if not writers:
        text = f"none takes writes. Standbys: {_named(standbys)}. If the primary does not return, promote one"
        return [Finding(Severity.WRONG, "servers", text)] if standbys else []
    return [_standby(standby, writers[0]) for standby in standbys]


def _rivals(writers: Sequence[Server]) -> str:
    what = f"{_named(writers)} take writes, which only one may: services connect to either, and readings may be lost"
    *replaced, last = writers
    if len({writer.system for writer in writers}) > 1:
        return f"{what}. They are not copies of one server: does DEVICESTAT_DATABASE_URL name a wrong one?"
    if replaced[-1].timeline == last.timeline:
        return f"{what}: stop the one that was replaced, at once"
    return f"{what}. {last.address} was promoted last: stop {_named(replaced)} at once, and make a standby of it"


def _standby(standby: Server, primary: Server) -> Finding:
    if standby.system != primary.system:
        text = f"{standby.address} is a standby of another server than {primary.address}: remove it from the URL"
        return Finding(Severity.WRONG, "servers", text)
    if not standby.receives:
        text = f"{standby.address} receives nothing from {primary.address}, and falls behind: its log says why"
        return Finding(Severity.WARNING, "servers", text)
    return Finding(Severity.OK, "servers", f"{standby.address} is a standby of {primary.address}")


def _named(servers: Sequence[Server]) -> str:
    return " and ".join(server.address for server in servers)


def _choice(url: str) -> list[Finding]:
    if _effective(url).get("target_session_attrs") in ("read-write", "primary"):
        return []
    text = "services use the first server that answers, also a standby: add target_session_attrs=read-write to the URL"
    return [Finding(Severity.WARNING, "servers", text)]


def _away(server: Server) -> Finding:
    end = "" if server.error.endswith("?") else "."
    text = f"{server.error}{end} So nobody knows whether it takes writes, or can replace another server"
    return Finding(Severity.WARNING, "servers", text)
