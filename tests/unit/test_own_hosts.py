"""Accepted hosts of a server without authentication, and pages that may change data."""

import socket

import pytest

from shared.serving.own_hosts import OwnHosts, own_hosts
from shared.settings import Settings

PAGES = "https://plots.example.com"


def hosts(*, on_loopback: bool = True, **settings: object) -> OwnHosts:
    given = Settings(**{"cors_origins": PAGES, **settings})
    return own_hosts(given, on_loopback=on_loopback)


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "localhost:8000",
        "localhost.",
        "a.localhost:1",
        "127.0.0.1:8000",
        "127.8.9.10",
        "[::1]",
        "[::1]:8000",
    ],
)
def test_names_of_loopback_are_taken(host: str) -> None:
    assert hosts().takes(host)
    assert hosts(on_loopback=False, http_host="0.0.0.0").takes(host)


@pytest.mark.parametrize(
    "host",
    [
        "rebound.test:8000", "localhost.rebound.test", "127.0.0.1.rebound.test", "notlocalhost", "192.168.1.5:8000",
        "0.0.0.0:8000", "[2001:db8::1]:8000", "2130706433", "0x7f000001", "127.1",
    ],
)  # fmt: skip
def test_no_other_name_is_taken_on_loopback(host: str) -> None:
    assert not hosts().takes(host)


def test_the_name_of_http_host_and_those_of_cors_origins_are_taken() -> None:
    mine = hosts(http_host="Press-Hall.test")
    assert mine.takes("press-hall.test:8000")
    assert mine.takes("plots.example.com")
    assert not mine.takes("example.com")


def test_off_loopback_any_address_is_accepted_and_the_name_of_the_machine() -> None:
    """An address is no name, so DNS rebinding cannot use it: a page at an address is this server's."""
    mine = hosts(on_loopback=False, http_host="0.0.0.0")
    assert all(mine.takes(host) for host in ("192.168.1.5:8000", "[2001:db8::1]:8000", socket.gethostname().lower()))
    assert not mine.takes("rebound.test")


@pytest.mark.parametrize(
    ("site", "origin", "taken"),
    [
        (None, None, True),  # not from a browser
        ("same-origin", "http://localhost:8000", True),
        ("none", None, True),
        ("cross-site", "https://evil.test", False),
        ("cross-site", None, False),
        ("same-site", "http://localhost:3000", False),  # another port of this machine
        ("cross-site", PAGES, True),
        (None, PAGES, True),
        (None, "http://localhost:8000", True),
        (None, "http://localhost:3000", False),
        (None, "null", False),  # a page in a sandbox, a file
        (None, "", False),
        (None, "http://[", False),  # no URL at all
        (None, "http://[::1]:3000", False),
    ],
)
def test_what_a_page_may_change(site: str | None, origin: str | None, *, taken: bool) -> None:
    assert hosts().takes_page(site, origin, "localhost:8000") is taken


def test_where_any_page_may_ask_any_page_may() -> None:
    assert hosts(cors_origins="*").takes_page("cross-site", "https://elsewhere.test", "localhost:8000")
