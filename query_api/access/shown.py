"""The credential of a request: a key or a token in `Authorization`, or the session in a cookie (ADR 45).

A bearer credential takes precedence. The cookie has one of two names:

- `__Host-devicestat` over https. Browsers accept a cookie of this name only with Secure, over https, for the whole path
  and for this host alone, so neither a page of a sibling domain nor plain http can set it (RFC 6265bis, section 4.1.3).
- `devicestat` over http on loopback. Elsewhere it is ignored.

A session is valid only in a cookie of the name with which it was made. So a sibling domain cannot plant one under the
other name.
"""

from collections.abc import Iterable, Sequence

import msgspec

from shared.access.bearer import bearer_of
from shared.access.credentials import is_secure
from shared.serving.own_hosts import OwnHosts

SECURE_COOKIE = "__Host-devicestat"
PLAIN_COOKIE = "devicestat"

_LOOPBACK = OwnHosts(names=frozenset(), any_address=False, origins=frozenset())

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


def is_loopback(headers: RawHeaders) -> bool:
    """Return whether the request addresses this machine by a name of loopback."""
    return _LOOPBACK.takes((header(headers, b"host") or "").strip().lower())


def _cookie_names(headers: RawHeaders, scheme: str) -> tuple[str, ...]:
    """Return the names of cookies that count, the first one first.

    A proxy that is not in TRUSTED_PROXIES may have been reached by https although the scheme is http.
    """
    return (SECURE_COOKIE, PLAIN_COOKIE) if scheme == "http" and is_loopback(headers) else (SECURE_COOKIE,)


def cookies(headers: RawHeaders) -> list[tuple[str, str]]:
    """Return the names and values of all cookies, in their order (RFC 6265, section 4.2.1)."""
    pairs = (
        pair.partition("=")
        for name, value in headers
        if name == b"cookie"
        for pair in value.decode("latin-1").split(";")
    )
    return [(name.strip(), value.strip()) for name, _, value in pairs]


def _session(headers: Sequence[tuple[bytes, bytes]], scheme: str) -> str | None:
    given = cookies(headers)
    for name in _cookie_names(headers, scheme):
        values = {value for own, value in given if own == name}
        if values:
            # two: another program of this host has set one
            return values.pop() if len(values) == 1 and _is_of(values, name) else ""
    return None


def _is_of(sessions: Iterable[str], name: str) -> bool:
    """Return whether the sessions were made for a cookie of this name."""
    return all(is_secure(session) is (name == SECURE_COOKIE) for session in sessions)
