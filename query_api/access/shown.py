"""The credential of a request: a key or a token in `Authorization`, or the session in a cookie (ADR 45).

A bearer credential takes precedence. The cookie has one of two names:

- `__Host-devicestat` over https. Browsers accept a cookie of this name only with Secure, over https, for the whole path
  and for this host alone, so neither a page of a sibling domain nor plain http can set it (RFC 6265bis, section 4.1.3).
- `devicestat` over http, which is for loopback. Over https it is ignored.
"""

from collections.abc import Iterable

import msgspec

from shared.access.bearer import bearer_of

SECURE_COOKIE = "__Host-devicestat"
PLAIN_COOKIE = "devicestat"

RawHeaders = Iterable[tuple[bytes, bytes]]
"""The headers of a request as ASGI has them: names in lower case."""


class Shown(msgspec.Struct, frozen=True):
    """A credential. `by_cookie`: the browser added it, whichever page asked for the request."""

    text: str
    by_cookie: bool = False

    def __repr__(self) -> str:
        return f"Shown(…, by_cookie={self.by_cookie})"


def shown(headers: RawHeaders, scheme: str) -> Shown | None:
    """Return the credential of a request; None if it has none. `scheme`: http or https."""
    headers = list(headers)
    authorization = header(headers, b"authorization")
    if authorization is not None and authorization.lstrip(" \t").lower().startswith("bearer "):
        return Shown(bearer_of(authorization) or "")
    session = _session(headers, scheme)
    return None if session is None else Shown(session, by_cookie=True)


def header(headers: RawHeaders, name: bytes) -> str | None:
    """Return the first header of the name."""
    return next((value.decode("latin-1") for given, value in headers if given == name), None)


def cookie_names(scheme: str) -> tuple[str, ...]:
    """Return the names of cookies that count over this scheme, the first one first.

    A proxy that is not in TRUSTED_PROXIES may have been reached by https although the scheme is http.
    """
    return (SECURE_COOKIE,) if scheme == "https" else (SECURE_COOKIE, PLAIN_COOKIE)


def cookies(headers: RawHeaders) -> list[tuple[str, str]]:
    """Return the names and values of all cookies, in their order (RFC 6265, section 4.2.1)."""
    pairs = (
        pair.partition("=")
        for name, value in headers
        if name == b"cookie"
        for pair in value.decode("latin-1").split(";")
    )
    return [(name.strip(), value.strip()) for name, _, value in pairs]


def _session(headers: RawHeaders, scheme: str) -> str | None:
    given = cookies(headers)
    for name in cookie_names(scheme):
        values = {value for own, value in given if own == name}
        if values:
            return values.pop() if len(values) == 1 else ""  # two: another program of this host has set one
    return None
