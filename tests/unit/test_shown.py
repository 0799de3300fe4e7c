"""The credential that a request shows, and the page that it is from. Pure."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from query_api.access.pages import page_of
from query_api.access.shown import PLAIN_COOKIE, SECURE_COOKIE, Shown, cookies, shown

HTTPS, HTTP = "https", "http"


def headers(**values: str) -> list[tuple[bytes, bytes]]:
    """Headers as ASGI has them."""
    return [(name.replace("_", "-").encode(), value.encode("latin-1")) for name, value in values.items()]


S, P = "dss_s1", "dss_p1"
"""The beginnings of sessions, made over https and over http."""


@pytest.mark.parametrize(
    ("scheme", "given", "found"),
    [
        (HTTP, {}, None),
        (HTTP, {"authorization": "Bearer x"}, Shown("x")),
        (HTTP, {"authorization": "bearer  x", "cookie": f"devicestat={P}"}, Shown("x")),
        (HTTP, {"authorization": "Bearer a b", "cookie": f"devicestat={P}"}, Shown("")),
        (HTTP, {"authorization": "Basic x", "cookie": f"devicestat={P}"}, Shown(P, by_cookie=True)),
        (HTTP, {"cookie": f"a=1; devicestat={P} ;b"}, Shown(P, by_cookie=True)),
        (HTTP, {"cookie": f"__Host-devicestat={S}; devicestat={P}"}, Shown(S, by_cookie=True)),
        (HTTP, {"cookie": f"devicestat={P}; devicestat={P}2"}, Shown("", by_cookie=True)),
        (HTTP, {"cookie": f"devicestat={P}; devicestat={P}"}, Shown(P, by_cookie=True)),
        (HTTP, {"cookie": f"Devicestat={P}; xdevicestat={P}"}, None),
        (HTTP, {"cookie": f"devicestat={S}"}, Shown("", by_cookie=True)),
        (HTTP, {"cookie": f"__Host-devicestat={P}"}, Shown("", by_cookie=True)),
        (HTTPS, {"cookie": f"__Host-devicestat={S}; devicestat={P}"}, Shown(S, by_cookie=True)),
        (HTTPS, {"cookie": f"devicestat={P}"}, None),
    ],
)
def test_the_credential_of_a_request(scheme: str, given: dict[str, str], found: Shown | None) -> None:
    assert shown(headers(host="localhost:8000", **given), scheme) == found


def test_the_plain_cookie_counts_on_loopback_alone() -> None:
    for host in ("devicestat.example.com", "192.0.2.1", ""):
        assert shown(headers(host=host, cookie=f"devicestat={P}"), HTTP) is None


@given(st.lists(st.tuples(st.just(b"cookie"), st.binary(max_size=60))), st.sampled_from([HTTP, HTTPS]))
def test_any_cookies_are_read(given: list[tuple[bytes, bytes]], scheme: str) -> None:
    assert all(name == name.strip() for name, _ in cookies(given))
    assert repr(shown(given, scheme)).count("…") <= 1


def test_the_repr_shows_no_secret() -> None:
    assert "secret" not in repr(Shown("secret"))


@pytest.mark.parametrize(
    ("scheme", "given", "is_own"),
    [
        (HTTPS, {"sec_fetch_site": "same-origin"}, True),
        (HTTPS, {"sec_fetch_site": "same-origin", "origin": "https://other.test"}, True),  # a proxy has changed Host
        (HTTPS, {"sec_fetch_site": "same-site", "origin": "https://here.test"}, False),
        (HTTPS, {"sec_fetch_site": "none"}, False),
        (HTTPS, {"sec_fetch_site": ""}, False),
        (HTTPS, {"origin": "https://here.test"}, True),
        (HTTPS, {"origin": "http://here.test"}, False),
        (HTTP, {"origin": "https://here.test"}, False),
        (HTTPS, {"origin": "https://here.test:444"}, False),
        (HTTPS, {"origin": "null"}, False),
        (HTTPS, {}, False),
    ],
)
def test_which_page_is_the_services_own(scheme: str, given: dict[str, str], is_own: bool) -> None:
    assert page_of(headers(host="Here.test", **given), scheme).is_own is is_own


@pytest.mark.parametrize(
    ("scheme", "host", "origin", "cookie"),
    [
        (HTTPS, "here.test", None, SECURE_COOKIE), (HTTPS, "localhost", None, SECURE_COOKIE),
        (HTTP, "localhost:8000", None, PLAIN_COOKIE), (HTTP, "127.0.0.1", None, PLAIN_COOKIE),
        (HTTP, "[::1]:8000", "http://[::1]:8000", PLAIN_COOKIE), (HTTP, "here.test", None, None),
        (HTTP, "192.0.2.1", None, None), (HTTP, "", None, None), (HTTP, "localhost.evil.test", None, None),
        (HTTP, "localhost:8000", "https://here.test", SECURE_COOKIE),
    ],
)  # fmt: skip
def test_the_cookie_of_a_page(scheme: str, host: str, origin: str | None, cookie: str | None) -> None:
    values = {"host": host} | ({} if origin is None else {"origin": origin})
    assert page_of(headers(**values), scheme).cookie == cookie
