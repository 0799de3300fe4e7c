"""Check the URLs of callbacks, and refuse those that lead into a private network.

Otherwise a client could make the service send requests to hosts that only the service can reach (server-side request
forgery): a database, a router, the metadata service of a cloud.
"""

import re
from collections.abc import Set
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

import msgspec

from query_api.errors import Fault, InvalidFields

MAX_URL_LENGTH = 2000
Ports = Set[int] | None
"""Ports that callbacks may use; None: all."""

_LABEL = r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_NAME = rf"({_LABEL}\.)*[A-Za-z]([A-Za-z0-9_-]{{0,61}}[A-Za-z0-9_])?"
_OCTET = r"(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
_IPV4 = rf"({_OCTET}\.){{3}}{_OCTET}"
_WHOLE_IPV6 = r"\[([0-9A-Fa-f]{1,4}:){7}[0-9A-Fa-f]{1,4}\]"
_PORT = r"([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])"
_REST = r"([/?][!$-;=?-Z\[\]_a-z~]*)?"
_URL = rf"[Hh][Tt][Tt][Pp][Ss]?://({_NAME}|{_IPV4}|<ipv6>)(:{_PORT})?{_REST}"
URL_PATTERN = f"^{_URL.replace('<ipv6>', _WHOLE_IPV6)}$"
"""Pattern of a URL, for the OpenAPI document."""
# Also matches shortened forms of IPv6, which `_ipv6` checks.
_match = re.compile(
    _URL.replace("<ipv6>", r"\[(?P<ipv6>[0-9A-Fa-f:.]{2,45})\]")
    .replace(_IPV4, f"(?P<ipv4>{_IPV4})")
    .replace(_PORT, f"(?P<port>{_PORT})"),
    re.ASCII,
).fullmatch


def check_url(url: str, *, allow_private: bool, ports: Ports) -> None:
    """Raise ValueError for a URL that no callback may use. The message says what is expected.

    The host name is resolved only when the callback is sent, as its address may change until then.
    """
    if len(url) > MAX_URL_LENGTH:
        raise ValueError(f"expected at most {MAX_URL_LENGTH} characters, got {len(url)}")
    found = _match(url)
    if found is None:
        raise ValueError(
            "expected http:// or https://, a host name or IP address, and optionally a port, a path and a query, all "
            "in ASCII, without user, password or fragment"
        )
    address = _ipv6(found["ipv6"]) if found["ipv6"] else found["ipv4"] and IPv4Address(found["ipv4"])
    if address and not allow_private and not is_public(address):
        raise ValueError(f"{address} is not a public address: {ONLY_PUBLIC}")
    check_port(int(found["port"] or (443 if url[:5].lower() == "https" else 80)), ports)


class CallbackRules(msgspec.Struct, frozen=True):
    """The callbacks that may be requested. `signed`: the secret that signs them is set."""

    signed: bool
    allow_private: bool
    ports: Ports

    def require(self, url: str) -> None:
        """Raise InvalidFields for an address that cannot be called."""
        if not self.signed:
            detail = "callbacks are signed, and this service has no secret for it: set DEVICESTAT_WEBHOOK_SECRET"
            raise InvalidFields(Fault("callback", f"{detail}, for the API and the workers"))
        try:
            check_url(url, allow_private=self.allow_private, ports=self.ports)
        except ValueError as error:
            raise InvalidFields(Fault("callback", str(error))) from None


def check_port(port: int, ports: Ports) -> None:
    """Raise ValueError for a port that callbacks may not use."""
    if ports is not None and port not in ports:
        raise ValueError(
            f"port {port} is not one of the allowed ports ({', '.join(map(str, sorted(ports)))}): the setting "
            "DEVICESTAT_WEBHOOK_PORTS lists them"
        )


ONLY_PUBLIC = "private addresses are allowed only if DEVICESTAT_WEBHOOK_ALLOW_PRIVATE is true"

_MAYBE_ADDRESS = re.compile(r"[0-9A-Fa-f:.]{2,}")


def without_addresses(text: str) -> str:
    """Return the text without IP addresses, which may be known only to this service."""
    return _MAYBE_ADDRESS.sub(lambda found: "…" if _is_address(found[0].strip(".")) else found[0], text)


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def _ipv6(literal: str) -> IPv6Address:
    try:
        return IPv6Address(literal)
    except ValueError:
        raise ValueError(f"expected an IPv6 address in the brackets, got {literal}") from None


_NAT64 = IPv6Network("64:ff9b::/96")  # RFC 6052: the IPv4 address is in the last 32 bits
_ISATAP = 0x00005EFE  # RFC 5214: before the IPv4 address in the last 32 bits; the bit 0x02000000 may be set
# https://www.iana.org/assignments/iana-ipv4-special-registry, and multicast (RFC 5771). Includes blocks that the
# registry calls global, as no receiver of callbacks is there.
_SPECIAL_IPV4 = [
    IPv4Network(network)
    for network in (
        "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12",
        "192.0.0.0/24", "192.0.2.0/24", "192.31.196.0/24", "192.52.193.0/24", "192.88.99.0/24", "192.168.0.0/16",
        "192.175.48.0/24", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4",
    )
]  # fmt: skip
_GLOBAL_UNICAST = IPv6Network("2000::/3")  # RFC 4291 section 2.4: the block that IANA assigns from
# https://www.iana.org/assignments/iana-ipv6-special-registry, of 2000::/3.
_SPECIAL_IPV6 = [
    IPv6Network(network)
    for network in (
        "2001::/23",  # Teredo, ORCHID and other protocols, RFC 2928
        "2001:db8::/32",  # for documentation, RFC 3849
        "2002::/16",  # 6to4, RFC 3056
        "2620:4f:8000::/48",  # AS112, RFC 7534
        "3fff::/20",  # for documentation, RFC 9637
    )
]


def is_public(address: IPv4Address | IPv6Address) -> bool:
    """Whether the address is public: not a special-purpose address of IANA's registries, nor an IPv6 form of one."""
    if isinstance(address, IPv4Address):
        return not any(address in network for network in _SPECIAL_IPV4)
    if address.ipv4_mapped is not None:
        return is_public(address.ipv4_mapped)
    embedded = IPv4Address(int(address) & 0xFFFFFFFF)
    if address in _NAT64:
        return is_public(embedded)
    if (int(address) >> 32) & 0xFDFFFFFF == _ISATAP and not is_public(embedded):
        return False
    return address in _GLOBAL_UNICAST and not any(address in network for network in _SPECIAL_IPV6)
