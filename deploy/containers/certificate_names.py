"""NAMES: the host names and addresses of a certificate, validated before openssl is called."""

import ipaddress
import re
from collections.abc import Iterator

from shared.errors import SettingsError

EXPECTED = "host names and IP addresses separated by commas, such as telemetry.example.com,192.0.2.7"
_LABEL = re.compile(r"(?!-)[A-Za-z0-9-]{1,63}(?<!-)")
"""One part of a host name (RFC 1123, section 2.1)."""
_MAX_LENGTH = 253


def alternatives(names: str) -> list[str]:
    """Return each name as a subject alternative name of openssl: `DNS:name` or `IP:address`.

    Raises SettingsError with every fault and its name.
    """
    given = [name.strip() for name in names.split(",")]
    if faults := list(_faults(given)):
        raise SettingsError(faults)
    return [f"IP:{name}" if _is_address(name) else f"DNS:{name}" for name in given]


def _faults(names: list[str]) -> Iterator[str]:
    for name in names:
        fault = _fault(name)
        if fault:
            yield f"NAMES is invalid ({name!r}: {fault}): expected {EXPECTED}"


def _fault(name: str) -> str | None:
    if not name:
        return "an empty name: is there an extra comma?"
    if _is_address(name):
        return None
    if ":" in name or "/" in name:
        return "neither an IPv6 address nor a host name, which has no scheme, port or path"
    if not name.isascii():
        return _ascii_form(name)
    labels = name.removeprefix("*.").split(".")
    if labels[-1].isdigit():
        return "not an IPv4 address, which has four numbers from 0 to 255"
    if len(name) > _MAX_LENGTH or not all(_LABEL.fullmatch(label) for label in labels):
        return "not a host name, which has letters, digits and hyphens, separated by dots"
    return None


def _ascii_form(name: str) -> str:
    try:
        return f"not in ASCII: write {name.encode('idna').decode()}"
    except UnicodeError:
        return "not in ASCII, and not a host name in any alphabet"


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return "%" not in name
