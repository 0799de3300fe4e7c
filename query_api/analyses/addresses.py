"""Addresses that a callback may go to, and those that lead into the network that this service stands in.

Whoever may ask for a callback could else have the service talk to what only it can reach (server-side request
forgery): a database, a router's page, the metadata of a cloud.
"""

import re
from ipaddress import IPv4Address, IPv6Address, IPv6Network
from typing import Annotated

from litestar.params import QueryParameter

MAX_URL_LENGTH = 2000

_LABEL = r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_NAME = rf"({_LABEL}\.)*[A-Za-z]([A-Za-z0-9_-]{{0,61}}[A-Za-z0-9_])?"
_OCTET = r"(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
_IPV4 = rf"({_OCTET}\.){{3}}{_OCTET}"
_WHOLE_IPV6 = r"\[([0-9A-Fa-f]{1,4}:){7}[0-9A-Fa-f]{1,4}\]"
_PORT = r"([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])"
_REST = r"([/?][!$-;=?-Z\[\]_a-z~]*)?"
_URL = rf"[Hh][Tt][Tt][Pp][Ss]?://({_NAME}|{_IPV4}|<ipv6>)(:{_PORT})?{_REST}"
URL_PATTERN = f"^{_URL.replace('<ipv6>', _WHOLE_IPV6)}$"
"""Of an address, in the document."""
# Also shortened forms of IPv6, which no short expression can tell from nonsense.
_match = re.compile(
    _URL.replace("<ipv6>", r"\[(?P<ipv6>[0-9A-Fa-f:.]{2,45})\]").replace(_IPV4, f"(?P<ipv4>{_IPV4})"), re.ASCII
).fullmatch

CallbackUrl = Annotated[
    str | None,
    QueryParameter(
        schema_extra={"pattern": URL_PATTERN, "max_length": MAX_URL_LENGTH},
        description="An http or https address that is called with the ended request and its result (POST, signed, "
        "see the README), whether it is done, failed or cancelled. It has no user, no password and no fragment, and "
        "does not lead to a private network.",
    ),
]


def check_url(url: str, *, allow_private: bool) -> None:
    """Raises ValueError, which says what would be right, for what is no callback's address.

    A name is not resolved: it is when the callback is made, for a name can lead elsewhere by then.
    """
    if len(url) > MAX_URL_LENGTH:
        raise ValueError(f"expected at most {MAX_URL_LENGTH} characters, got {len(url)}")
    found = _match(url)
    if found is None:
        raise ValueError(
            "expected http:// or https://, a host name or an address in its common form, perhaps a port, a path and "
            "a query, all in ASCII, and no user, password or fragment"
        )
    address = _ipv6(found["ipv6"]) if found["ipv6"] else found["ipv4"] and IPv4Address(found["ipv4"])
    if address and not allow_private and not is_public(address):
        raise ValueError(private(str(address)))


def private(address: str) -> str:
    """What is said of an address that is not public."""
    return (
        f"{address} is not a public address: callbacks go to a private network only where "
        "DEVICESTAT_WEBHOOK_ALLOW_PRIVATE is true"
    )


def _ipv6(literal: str) -> IPv6Address:
    try:
        return IPv6Address(literal)
    except ValueError:
        raise ValueError(f"expected an IPv6 address in the brackets, got {literal}") from None


_NAT64 = IPv6Network("64:ff9b::/96")  # RFC 6052: the IPv4 address is in the last 32 bits
_NOT_PUBLIC = [
    IPv6Network(network)
    for network in (
        "::/96",  # IPv4-compatible, RFC 4291 section 2.5.5.1
        "64:ff9b:1::/48",  # NAT64 of one's own network, RFC 8215
        "2001::/23",  # Teredo and other protocols, RFC 2928
        "2002::/16",  # 6to4, RFC 3056
        "3fff::/20",  # for documentation, RFC 9637
        "5f00::/16",  # segment routing, RFC 9602
    )
]


def is_public(address: IPv4Address | IPv6Address) -> bool:
    """Whether it is of the public Internet: neither private, loopback, link-local, multicast, reserved or unspecified,
    nor an IPv6 form of such an IPv4 address."""
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return is_public(address.ipv4_mapped)
        if address in _NAT64:
            return is_public(IPv4Address(int(address) & 0xFFFFFFFF))
        if address.is_site_local or any(address in network for network in _NOT_PUBLIC):
            return False
    return address.is_global and not (address.is_multicast or address.is_reserved or address.is_unspecified)
