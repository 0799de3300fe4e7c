"""The servers of a database's URL, as `devicestat doctor` asks and judges them."""

import pytest

from deploy.doctor.servers import Server, each_server, judge
from shared.status.findings import Severity

PRIMARY = Server("a:1/db", takes_writes=True, started="1", system="7", timeline="00000001")
STANDBY = Server("b:1/db", started="2", system="7", receives=True)


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PGHOST", "PGHOSTADDR", "PGPORT", "PGSERVICE"):
        monkeypatch.delenv(name, raising=False)


def places(url: str) -> list[str]:
    """Return host, address and port of each server."""
    return [
        " ".join(part for part in server.split() if part.startswith(("host", "port")))
        for server in each_server(url)
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("url", "servers"),
    [
        ("postgresql://u@a/db", ["host=a port=5432"]),
        ("postgresql://a:1,b:2/db?target_session_attrs=read-write", ["host=a port=1", "host=b port=2"]),
        ("postgresql://a,b,c/db?port=5", ["host=a port=5", "host=b port=5", "host=c port=5"]),
        (
            "postgresql:///db?hostaddr=127.0.0.1,127.0.0.2&port=5",
            ["hostaddr=127.0.0.1 port=5", "hostaddr=127.0.0.2 port=5"],
        ),
        ("postgresql:///db", ["port=5432"]),
    ],
)
def test_each_server_has_its_place(url: str, servers: list[str]) -> None:
    assert places(url) == servers
    assert all("target_session_attrs=any" in server for server in each_server(url))


def test_variables_name_servers_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGHOST", "a,b")
    monkeypatch.setenv("PGPORT", "1,2")
    assert places("postgresql:///db") == ["host=a port=1", "host=b port=2"]
    assert places("postgresql://c:3/db") == ["host=c port=3"]


@pytest.mark.parametrize(
    ("servers", "severity", "text"),
    [
        ([PRIMARY, STANDBY], Severity.OK, "b:1/db is a standby of a:1/db"),
        ([STANDBY], Severity.WRONG, "none takes writes. Standbys: b:1/db"),
        (
            [PRIMARY, Server("c:1/db", started="3", system="8", receives=True)],
            Severity.WRONG, "c:1/db is a standby of another server than a:1/db",
        ),
        (
            [PRIMARY, Server("c:1/db", takes_writes=True, started="3", system="8", timeline="00000001")],
            Severity.WRONG, "They are not copies of one server",
        ),
        (
            [PRIMARY, Server("c:1/db", takes_writes=True, started="3", system="7", timeline="00000001")],
            Severity.WRONG, "stop the one that was replaced, at once",
        ),
    ],
)  # fmt: skip
def test_what_the_servers_are(servers: list[Server], severity: Severity, text: str) -> None:
    (found,) = judge([*servers, servers[0], Server("away:1/db", error="no response")])
    assert found.severity is severity
    assert text in found.text
