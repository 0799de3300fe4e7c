"""Closed by default: a server without authentication listens on this machine only (ADR 22, 33)."""

import ipaddress

import structlog

from shared.errors import LocalError
from shared.serving.own_hosts import OwnHosts, own_hosts
from shared.serving.service import look_up
from shared.serving.telemetry import TelemetryAccess
from shared.settings import Settings

_log = structlog.get_logger()


def require_closed(settings: Settings, *, insecure: bool) -> None:
    """Raise LocalError if the network can reach an API without authentication; if `insecure`, log a warning.

    Also raises LocalError if HTTP_HOST does not resolve.
    """
    if settings.auth == "on" or is_loopback(settings.http_host):
        return
    if not insecure:
        raise LocalError(
            f"DEVICESTAT_HTTP_HOST is {settings.http_host!r}, which is reachable from the network, and DEVICESTAT_AUTH "
            "is off: every client could read, write and register. Set DEVICESTAT_AUTH=on and create keys with "
            "`devicestat keys create`, or use --insecure if something else restricts access"
        )
    _log.warning(
        "authentication is off: every client of this address may read, write and register",
        host=settings.http_host,
        advice="set DEVICESTAT_AUTH=on and create keys with `devicestat keys create`",
    )


def require_closed_telemetry(settings: Settings, port: int, *, insecure: bool) -> None:
    """Raise LocalError if the network could read the metrics on this port; if `insecure`, log a warning."""
    if port == 0 or guards_telemetry(settings) or is_loopback(settings.http_host):
        return
    if not insecure:
        raise LocalError(
            f"DEVICESTAT_HTTP_HOST is {settings.http_host!r}, which is reachable from the network, and the metrics on "
            f"port {port} require no token. Set DEVICESTAT_METRICS_TOKEN or DEVICESTAT_AUTH=on, or the port to 0, or "
            "use --insecure if something else restricts access"
        )
    _log.warning(
        "the metrics require no token: every client of this address may read them",
        host=settings.http_host,
        port=port,
        advice="set DEVICESTAT_METRICS_TOKEN",
    )


def guards_telemetry(settings: Settings) -> bool:
    """Return whether the metrics of the ingestor and the worker require METRICS_TOKEN."""
    return settings.auth == "on" or settings.metrics_token is not None


def hosts_of_api(settings: Settings) -> OwnHosts | None:
    """Return the accepted hosts of the API; None if it requires a key."""
    return None if settings.auth == "on" else _hosts(settings)


def telemetry_access(settings: Settings) -> TelemetryAccess:
    """Return the access rules for health and metrics of the ingestor and the worker."""
    guarded = guards_telemetry(settings)
    return TelemetryAccess(guarded, settings.metrics_token, None if guarded else _hosts(settings))


def _hosts(settings: Settings) -> OwnHosts:
    return own_hosts(settings, on_loopback=is_loopback(settings.http_host))


def is_loopback(host: str) -> bool:
    """Return whether the name resolves to loopback addresses only."""
    addresses = (ipaddress.ip_address(address[0]) for *_, address in look_up(host, 0))
    return all(_inner(address).is_loopback for address in addresses)


def _inner(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """Return the IPv4 address in an address of the form ::ffff:127.0.0.1."""
    return getattr(address, "ipv4_mapped", None) or address
