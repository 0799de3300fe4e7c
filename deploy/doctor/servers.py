"""Of several servers in the database's URL, one may take writes: the others are its standbys.

A primary that was replaced and is started again takes writes as well. Services may then connect to either.
"""

import asyncio
from collections.abc import Sequence

import msgspec
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from shared.errors import DevicestatError
from shared.postgres.connections import address, connect, refusals_translated
from shared.status.findings import Finding, Severity

_ASK = "SELECT NOT pg_is_in_recovery(), pg_postmaster_start_time()::text"


class _Server(msgspec.Struct, frozen=True):
    """`started`: tells servers apart, of which one may have several addresses. `error`: why it has not answered."""

    address: str
    takes_writes: bool = False
    started: str = ""
    error: str = ""


async def examine_servers(url: str) -> list[Finding]:
    """Ask each server of the URL. Return no finding if it names one server only."""
    urls = each_server(url)
    if len(urls) == 1:
        return []
    servers = await asyncio.gather(*map(_ask, urls))
    return [*_writers(servers), *(_away(server) for server in servers if server.error)]


def each_server(url: str) -> list[str]:
    """Return a connection string for each server of the URL."""
    given = conninfo_to_dict(url)
    hosts, addresses, ports = (str(given.get(name) or "").split(",") for name in ("host", "hostaddr", "port"))
    count = max(len(hosts), len(addresses))
    columns = [column * count if len(column) == 1 else column for column in (hosts, addresses, ports)]
    return [
        make_conninfo(**{**given, "host": host, "hostaddr": at or None, "port": port or None, **_ANY})
        for host, at, port in zip(*columns, strict=True)
    ]


_ANY = {"target_session_attrs": "any"}


async def _ask(url: str) -> _Server:
    try:
        with refusals_translated():
            async with await connect(url, "doctor") as connection:
                row = await (await connection.execute(_ASK)).fetchone()
    except DevicestatError as error:
        return _Server(address(url), error=str(error))
    assert row is not None, "a SELECT without FROM has one row"
    return _Server(address(url), *row)


def _writers(servers: Sequence[_Server]) -> list[Finding]:
    writers = {server.started: server.address for server in servers if server.takes_writes}
    if len(writers) > 1:
        advice = "stop the one that was replaced, at once: services connect to either, and readings may be lost"
        text = f"{' and '.join(writers.values())} take writes, which only one may: {advice}"
        return [Finding(Severity.WRONG, "servers", text)]
    standbys = [server.address for server in servers if server.started and not server.takes_writes]
    if not writers or not standbys:
        return []
    return [Finding(Severity.OK, "servers", f"{' and '.join(standbys)} can replace {''.join(writers.values())}")]


def _away(server: _Server) -> Finding:
    return Finding(Severity.WARNING, "servers", f"{server.error}. Without it, no server can replace the other")
