"""Accepted Host headers, and origins of pages that may change data (ADR 33).

A service without authentication trusts every client, and a browser on the same machine is a client for every page that
it shows. A page of another origin can send some requests without a preflight
(https://fetch.spec.whatwg.org/#http-cors-protocol). A page whose name resolves to 127.0.0.1 (DNS rebinding) even has
the origin of the service. So while AUTH is off:

- Host must be a name that no other site can have: a name of loopback, HTTP_HOST, or an origin in CORS_ORIGINS;
- a request that may change data must not come from a page of another origin, by Sec-Fetch-Site or Origin.

With any settings, HTTP/1.1 requires exactly one Host header (RFC 9112 section 3.2).
"""

import ipaddress
import re
import socket
from collections.abc import Sequence
from http import HTTPStatus
from urllib.parse import urlsplit

import msgspec

from shared.serving.asgi import ASGIApp, Receive, Scope, Send
from shared.settings import Settings

_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9._~!$&'()*+;=%-]+)(?::[0-9]*)?", re.ASCII | re.IGNORECASE)
"""RFC 9110 section 7.2: uri-host with an optional port."""
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
_OWN_PAGES = frozenset({"same-origin", "none"})
"""Values for pages of this service, and for addresses that the user typed.

https://www.w3.org/TR/fetch-metadata/#sec-fetch-site-header"""
_MAX_SHOWN = 100


class HostRefusal(msgspec.Struct, frozen=True):
    """Refusal of a request: the status, and advice."""

    status: HTTPStatus
    detail: str


class OwnHosts(msgspec.Struct, frozen=True, kw_only=True):
    """Accepted hosts of a server without authentication. `any_address`: accept every IP address, which is no name."""

    names: frozenset[str]
    any_address: bool
    origins: frozenset[str]

    def takes(self, host: str) -> bool:
        """Return whether the value of a Host header, in lower case, names this server."""
        name = _name_of(host)
        return name in self.names or _is_loopback_name(name) or _is_address(name, loopback=not self.any_address)

    def takes_page(self, site: str | None, origin: str | None, host: str) -> bool:
        """Return whether a page may change data, by Sec-Fetch-Site and Origin; browsers send one of them."""
        if origin is not None and not self.origins.isdisjoint((origin, "*")):
            return True
        if site is not None:
            return site in _OWN_PAGES
        return origin is None or origin.partition("://")[2] == host


def own_hosts(settings: Settings, *, on_loopback: bool) -> OwnHosts:
    """Return the hosts of a server that listens on HTTP_HOST and requires no key.

    Off loopback (`--insecure`) that is any address, and the name of the machine.
    """
    origins = list(settings.cors_origins)
    sites = [urlsplit(origin).netloc for origin in origins]
    names = {_name_of(host.lower()) for host in (settings.http_host, *sites)}
    if not on_loopback:
        names.add(socket.gethostname().lower())
    return OwnHosts(names=frozenset(names), any_address=not on_loopback, origins=frozenset(origins))


def _name_of(host: str) -> str:
    """Return the host without port, brackets and trailing dot."""
    found = _HOST.fullmatch(host)
    return found[1].strip("[]").removesuffix(".") if found else host


def _is_loopback_name(name: str) -> bool:
    """RFC 6761 section 6.3: resolvers must not query the network for these names."""
    return name == "localhost" or name.endswith(".localhost")


def _is_address(name: str, *, loopback: bool) -> bool:
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return False
    return address.is_loopback or not loopback


class HostRules:
    """Middleware that refuses requests for other hosts. `hosts`: None if the server requires a key."""

    def __init__(self, app: ASGIApp, hosts: OwnHosts | None) -> None:
        self._app = app
        self._hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        refusal = self._refusal(scope) if scope["type"] == "http" else None
        if refusal is None:
            await self._app(scope, receive, send)
        else:
            await _answer(refusal, scope["path"], send)

    def _refusal(self, scope: Scope) -> HostRefusal | None:
        given = _values(scope, b"host")
        if not given and scope["http_version"] == "1.0":  # not from a browser
            return None
        if len(given) != 1 or not _HOST.fullmatch(given[0]):
            detail = f"a request must have one Host header with a name or an address, and this one has {_shown(given)}"
            return HostRefusal(HTTPStatus.BAD_REQUEST, detail)
        return self._foreign(scope, given[0].lower()) if self._hosts is not None else None

    def _foreign(self, scope: Scope, host: str) -> HostRefusal | None:
        assert self._hosts is not None, "only called without authentication"
        if not self._hosts.takes(host):
            return _misdirected(host)
        if scope["method"] in _SAFE_METHODS:
            return None
        site, origin = (next(iter(_values(scope, name)), None) for name in (b"sec-fetch-site", b"origin"))
        return None if self._hosts.takes_page(site, origin, host) else _foreign_page(origin)


def _values(scope: Scope, name: bytes) -> Sequence[str]:
    return [value.decode("latin-1").strip() for given, value in scope["headers"] if given == name]


def _shown(hosts: Sequence[str]) -> str:
    return "none" if not hosts else " and ".join(repr(host[:_MAX_SHOWN]) for host in hosts[:2])


def _misdirected(host: str) -> HostRefusal:
    return HostRefusal(
        HTTPStatus.MISDIRECTED_REQUEST,
        f"the Host {host[:_MAX_SHOWN]!r} is not accepted: while DEVICESTAT_AUTH is off, only DEVICESTAT_HTTP_HOST and "
        "names of loopback, such as localhost and 127.0.0.1, are. Configure a proxy to send one of these, or add the "
        "origin of its pages to DEVICESTAT_CORS_ORIGINS; or set DEVICESTAT_AUTH=on",
    )


def _foreign_page(origin: str | None) -> HostRefusal:
    page = "another site" if origin is None else repr(origin[:_MAX_SHOWN])
    return HostRefusal(
        HTTPStatus.FORBIDDEN,
        f"pages of {page} may not change data: while DEVICESTAT_AUTH is off, only pages of this service and of "
        "the origins in DEVICESTAT_CORS_ORIGINS may",
    )


async def _answer(refusal: HostRefusal, path: str, send: Send) -> None:
    """Return a problem of type about:blank (RFC 9457 section 4.2.1)."""
    status = refusal.status
    problem = {
        "type": "about:blank", "title": status.phrase, "status": status.value, "detail": refusal.detail,
        "instance": path,
    }  # fmt: skip
    body = msgspec.json.encode(problem)
    headers = [(b"content-type", b"application/problem+json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status.value, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})
