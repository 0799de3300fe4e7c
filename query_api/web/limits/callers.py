"""Identify the caller of a request: its key, or else its address."""

import ipaddress
from functools import lru_cache

from litestar.types import Scope

from query_api.access.rules import ANYBODY, Principal
from query_api.access.shown import shown

MAX_KNOWN = 10_000
"""Cached credentials. Above this number the cache is cleared."""
_SITE_BITS = 64
"""Prefix length of an IPv6 site, whose addresses count as one (RFC 6177)."""


class Callers:
    """The callers known to this process.

    A request is counted before its key is looked up, so that requests over the limit do not load the database. A valid
    key is counted as itself from its second request on; an invalid key is counted by its address.
    """

    def __init__(self) -> None:
        self._known: dict[str, str] = {}

    def of(self, scope: Scope) -> str:
        """Return the caller before the request is authenticated."""
        credential = _credential(scope)
        return (credential and self._known.get(credential)) or _address(scope)

    def learn(self, scope: Scope) -> None:
        """Cache the caller of the credential after authentication."""
        principal: Principal | None = scope.get("auth")
        credential = _credential(scope)
        if credential and principal is not None and principal is not ANYBODY and credential not in self._known:
            if len(self._known) >= MAX_KNOWN:
                self._known.clear()
            self._known[credential] = principal.name


def caller_of(scope: Scope) -> str:
    """Return the caller of an authenticated request."""
    principal: Principal = scope["auth"]
    return _address(scope) if principal is ANYBODY else principal.name


def _credential(scope: Scope) -> str | None:
    given = shown(scope["headers"], scope["scheme"])
    return None if given is None else given.text


def _address(scope: Scope) -> str:
    client = scope["client"]
    return network_of(client[0]) if client else "unknown"


@lru_cache(MAX_KNOWN)
def network_of(host: str) -> str:
    """Return an IPv4 address, the network of an IPv6 address, or anything else unchanged."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    if address.version == 4:
        return host
    return str(ipaddress.IPv6Network((int(address), _SITE_BITS), strict=False))
