"""Closed by default: while AUTH is off, the API listens only where nothing but this machine reaches it (ADR 22)."""

import ipaddress

import structlog

from shared.errors import LocalError
from shared.service import look_up
from shared.settings import Settings

_log = structlog.get_logger()


def require_closed(settings: Settings, *, insecure: bool) -> None:
    """Raises LocalError where others reach an API that asks nobody for a key; if it is to be so, warns.

    Also where HTTP_HOST is a name that is not known.
    """
    if settings.auth == "on" or is_loopback(settings.http_host):
        return
    if not insecure:
        raise LocalError(
            f"DEVICESTAT_HTTP_HOST is {settings.http_host!r}, which others may reach, while DEVICESTAT_AUTH is off: "
            "whoever reaches it could read, write and register. Set DEVICESTAT_AUTH=on and make keys with "
            "`devicestat keys create`; or give --insecure if something else keeps strangers away"
        )
    _log.warning(
        "authentication is off: whoever reaches this address may read, write and register",
        host=settings.http_host,
        advice="set DEVICESTAT_AUTH=on and make keys with `devicestat keys create`",
    )


def is_loopback(host: str) -> bool:
    """Whether all addresses that the name stands for are of this machine alone."""
    addresses = (ipaddress.ip_address(address[0]) for *_, address in look_up(host, 0))
    return all(_inner(address).is_loopback for address in addresses)


def _inner(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """The IPv4 address in one of the form ::ffff:127.0.0.1."""
    return getattr(address, "ipv4_mapped", None) or address
