"""Whose requests are counted together: those of one key, else those of one address."""

import ipaddress
from functools import lru_cache

from litestar.types import Scope

from query_api.access.rules import ANYBODY, Principal

MAX_KNOWN = 10_000
"""Credentials; beyond it all are forgotten, and learnt again."""
_SITE_BITS = 64
"""A site has a whole IPv6 network of this prefix, and so any number of addresses (RFC 6177)."""


class Callers:
    """The callers that this process has seen.

    A request has to be counted before it is found out whose it is: what no database has been asked for cannot flood
    it. So a key counts as itself from its second request on, and one that was made up as the address it comes from.
    """

    def __init__(self) -> None:
        self._known: dict[bytes, str] = {}

    def of(self, scope: Scope) -> str:
        """The caller, before the request is let in."""
        shown = _credential(scope)
        return (shown and self._known.get(shown)) or _address(scope)

    def learn(self, scope: Scope) -> None:
        """Remembers whose the credential is, once the request was let in."""
        principal: Principal | None = scope.get("auth")
        shown = _credential(scope)
        if shown and principal is not None and principal is not ANYBODY and shown not in self._known:
            if len(self._known) >= MAX_KNOWN:
                self._known.clear()
            self._known[shown] = principal.name


def caller_of(scope: Scope) -> str:
    """The caller of a request that was let in."""
    principal: Principal = scope["auth"]
    return _address(scope) if principal is ANYBODY else principal.name


def _credential(scope: Scope) -> bytes | None:
    for name, value in scope["headers"]:
        if name == b"authorization":
            return value
    return None


def _address(scope: Scope) -> str:
    client = scope["client"]
    return network_of(client[0]) if client else "unknown"


@lru_cache(MAX_KNOWN)
def network_of(host: str) -> str:
    """The address of IPv4, the network of an address of IPv6; what is neither as it is."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    if address.version == 4:
        return host
    return str(ipaddress.IPv6Network((int(address), _SITE_BITS), strict=False))
