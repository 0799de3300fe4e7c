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


@pytest.mark.parametrize(
    ("scheme", "given", "found"),
    [
        (HTTP, {}, None),
        (HTTP, {"authorization": "Bearer x"}, Shown("x")),
        (HTTP, {"authorization": "bearer  x", "cookie": "devicestat=y"}, Shown("x")),
        (HTTP, {"authorization": "Bearer a b", "cookie": "devicestat=y"}, Shown("")),
        (HTTP, {"authorization": "Basic x", "cookie": "devicestat=y"}, Shown("y", by_cookie=True)),
        (HTTP, {"cookie": "a=1; devicestat=y ;b"}, Shown("y", by_cookie=True)),
        (HTTP, {"cookie": "__Host-devicestat=z; devicestat=y"}, Shown("z", by_cookie=True)),
        (HTTP, {"cookie": "devicestat=y; devicestat=z"}, Shown("", by_cookie=True)),
        (HTTP, {"cookie": "devicestat=y; devicestat=y"}, Shown("y", by_cookie=True)),
        (HTTP, {"cookie": "Devicestat=y; xdevicestat=z"}, None),
        (HTTPS, {"cookie": "__Host-devicestat=z; devicestat=y"}, Shown("z", by_cookie=True)),
        (HTTPS, {"cookie": "devicestat=y"}, None),
    ],
)
def test_the_credential_of_a_request(scheme: str, given: dict[str, str], found: Shown | None) -> None:
    assert shown(headers(**given), scheme) == found


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
