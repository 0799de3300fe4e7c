"""Parsed values of settings: addresses, topic filters, durations, ports, keys.

Each function raises ValueError with the fault. If the text may contain a password, the error quotes no part of it.
"""

import base64
import binascii
import ipaddress
import re
from datetime import timedelta
from urllib.parse import SplitResult, unquote, urlsplit

import msgspec
from psycopg import ProgrammingError
from psycopg.conninfo import conninfo_to_dict

from shared.access.credentials import GivenKey
from shared.access.credentials import read as read_credential

_BEARER = re.compile(r"[A-Za-z0-9._~+/-]+=*", re.ASCII)
"""Form of a bearer token (RFC 6750, section 2.1)."""
_UNQUOTED = "in a user or a password, / ? # @ [ ] are written %2F %3F %23 %40 %5B %5D"


class TlsFiles(msgspec.Struct, frozen=True, kw_only=True):
    """PEM files: authorities to trust instead of the system's, and a client certificate with its key."""

    ca: str | None = None
    cert: str | None = None
    key: str | None = None


class MqttAddress(msgspec.Struct, frozen=True, kw_only=True):
    """Address of a broker: a host and port, or the path of a Unix socket. `url` may contain a password."""

    host: str
    port: int
    url: str = ""
    tls: bool = False
    files: TlsFiles = TlsFiles()
    username: str | None = None
    password: str | None = None
    unix_socket: str | None = None

    def __str__(self) -> str:
        """The address without user and password."""
        return f"unix socket {self.unix_socket}" if self.unix_socket else f"{self.host}:{self.port}"

    __repr__ = __str__


class TopicFilter(msgspec.Struct, frozen=True):
    """A subscription: the text before and after the one level that is the device's key."""

    pattern: str
    prefix: str
    suffix: str

    @property
    def plain(self) -> str:
        """The filter without `$share` and its group."""
        return f"{self.prefix}+{self.suffix}"

    @property
    def group(self) -> str:
        """`$share/NAME/` of a shared subscription, else empty."""
        return self.pattern.removesuffix(self.plain)

    def __str__(self) -> str:
        return self.pattern

    def topic(self, key: str) -> str:
        """Return the topic of the device with the key."""
        return f"{self.prefix}{key}{self.suffix}"

    def key(self, topic: str) -> str | None:
        """Return the device's key in the topic; None if the topic does not match."""
        if not (topic.startswith(self.prefix) and topic.endswith(self.suffix)):
            return None
        return topic[len(self.prefix) : len(topic) - len(self.suffix)]


def parse_mqtt_url(url: str) -> MqttAddress:
    """Return the broker's address. Raises ValueError."""
    parts, port = _split(url)
    if parts.scheme == "mqtt+unix":
        if parts.netloc or not parts.path.startswith("/"):
            raise ValueError("mqtt+unix takes three slashes and an absolute path")
        return MqttAddress(url=url, host="localhost", port=0, unix_socket=unquote(parts.path))
    if parts.scheme not in ("mqtt", "mqtts"):
        raise ValueError("no mqtt:// or mqtts:// at the beginning")
    if not parts.hostname:
        raise ValueError("no host")
    if not _is_host(parts.hostname):
        raise ValueError("the host name is invalid")
    if parts.path not in ("", "/") or parts.query or parts.fragment:
        raise ValueError(f"there is text after the port; {_UNQUOTED}")
    tls = parts.scheme == "mqtts"
    return MqttAddress(
        url=url,
        host=parts.hostname,
        port=port or (8883 if tls else 1883),
        tls=tls,
        username=unquote(parts.username) if parts.username else None,
        password=unquote(parts.password) if parts.password is not None else None,
    )


def _split(url: str) -> tuple[SplitResult, int | None]:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:  # its message shows the unparsed part, which is half of a password with a /
        raise ValueError(f"host or port cannot be read; {_UNQUOTED}") from None
    return parts, port


def _is_host(name: str) -> bool:
    try:
        name.encode("idna")
    except UnicodeError:
        return False
    return True


def parse_topic_filter(pattern: str) -> TopicFilter:
    """Return the parts of a subscription with exactly one `+` level. Raises ValueError for any other."""
    levels = pattern.split("/")
    if levels[0] == "$share":
        if len(levels) < 3 or not levels[1] or set("+#") & set(levels[1]):  # MQTT-4.8.2-1, -2
            raise ValueError("$share takes a group's name and a topic filter")
        levels = levels[2:]
    if levels.count("+") != 1 or any(set("+#\0") & set(level) for level in levels if level != "+"):
        raise ValueError("not exactly one + level")
    at = levels.index("+")
    prefix = "".join(f"{level}/" for level in levels[:at])
    suffix = "".join(f"/{level}" for level in levels[at + 1 :])
    return TopicFilter(pattern=pattern, prefix=prefix, suffix=suffix)


def check_database_url(url: str) -> None:
    """Raise ValueError unless libpq parses the URL as intended."""
    scheme = re.match(r"postgres(ql)?://", url)
    if not scheme:
        raise ValueError("no postgresql:// at the beginning")
    try:
        given = conninfo_to_dict(url)
    except ProgrammingError:
        raise ValueError("libpq cannot read it") from None
    # libpq parses text after a / or an @ of a password as a port, a database or a host, and shows it in its errors.
    path = url[scheme.end() :].partition("?")[0].partition("/")[2]
    ports = str(given.get("port") or "").replace(",", "")
    if "@" in str(given.get("host") or "")[1:] or "@" in path or not (ports.isdecimal() or not ports):
        raise ValueError(f"host or port cannot be read; {_UNQUOTED}")


def parse_admin_url(url: str) -> MqttAddress:
    """Return the broker's address. Raises ValueError if it has no user and password."""
    address = parse_mqtt_url(url)
    if address.username is None or address.password is None:
        raise ValueError("no user and password")
    return address


def check_api_key(text: str) -> None:
    """Raise ValueError unless the text has the form of a key."""
    if not isinstance(read_credential(text), GivenKey):
        raise ValueError("not in the form of a key")  # noqa: TRY004  # the text is wrong, not its type


def check_bearer(text: str) -> None:
    """Raise ValueError unless a header can carry the text as a bearer token."""
    if not _BEARER.fullmatch(text):
        raise ValueError("characters other than letters, digits and . _ ~ + / -, or = before the end")


_DURATION = re.compile(r"([1-9][0-9]{0,5})([smhdy])")
_UNITS = {
    "s": timedelta(seconds=1),
    "m": timedelta(minutes=1),
    "h": timedelta(hours=1),
    "d": timedelta(days=1),
    "y": timedelta(days=365.25),
}
LONGEST = 200 * _UNITS["y"]
"""Longest duration of a setting. It can be subtracted from any current date."""
_SIZE = re.compile(r"([1-9][0-9]{0,14})\s*(B|kB|MB|GB|TB)?")
_MULTIPLES = {None: 1, "B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
NONE = "none"
"""Text of a setting that turns a limit off."""


def parse_duration(text: str) -> timedelta:
    """Return the duration in a text such as 60s, 5m, 12h, 90d or 10y (a year has 365.25 days). Raises ValueError."""
    match = _DURATION.fullmatch(text)
    if match is None:
        raise ValueError("not a whole number followed by s, m, h, d or y")
    duration = int(match[1]) * _UNITS[match[2]]
    if duration > LONGEST:
        raise ValueError("longer than 200y")
    return duration


def parse_optional_duration(text: str) -> timedelta | None:
    """Return the duration in the text, None for `none`. Raises ValueError."""
    return None if text == NONE else parse_duration(text)


LEAST_AUDIT_AGE = timedelta(days=30)
"""The database's function refuses to delete younger entries of the audit log."""
_DAYS = re.compile(r"[1-9][0-9]{0,4}d", re.ASCII)


def parse_audit_age(text: str) -> timedelta | None:
    """Return the duration in the text, None for `none`. Raises ValueError, also for less than 30 days."""
    age = parse_optional_duration(text)
    if age is not None and age < LEAST_AUDIT_AGE:
        raise ValueError("less than 30d")
    return age


def parse_days(text: str) -> timedelta:
    """Return the duration in a text such as 400d. Raises ValueError for any other unit."""
    if not _DAYS.fullmatch(text):
        raise ValueError("not a whole number followed by d")
    return timedelta(days=int(text[:-1]))


def parse_optional_size(text: str) -> int | None:
    """Return the bytes in a text such as 1GB or 500MB (powers of ten), None for `none`. Raises ValueError."""
    if text == NONE:
        return None
    match = _SIZE.fullmatch(text)
    if match is None:
        raise ValueError("not a number of bytes, kB, MB, GB or TB")
    return int(match[1]) * _MULTIPLES[match[2]]


def parse_ports(text: str) -> frozenset[int] | None:
    """Return the ports in a text such as 80,443, None for `all`. Raises ValueError."""
    if text == "all":
        return None
    ports = frozenset(int(part) for part in _listed(text))
    if not ports or not all(0 < port < 65_536 for port in ports):
        raise ValueError("not ports from 1 to 65535")
    return ports


def _listed(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def parse_networks(text: str) -> tuple[str, ...]:
    """Return the comma-separated addresses and networks. Raises ValueError with the part that is neither."""
    for part in _listed(text):
        ipaddress.ip_network(part)
    return _listed(text)


def parse_origins(text: str) -> tuple[str, ...]:
    """Return the comma-separated origins (RFC 6454, or `*`). Raises ValueError with the part that is not an origin."""
    for origin in _listed(text):
        parts = urlsplit(origin)
        if origin != "*" and (parts.scheme not in ("http", "https") or origin != f"{parts.scheme}://{parts.netloc}"):
            raise ValueError(f"{origin!r} is not an origin")
    return _listed(text)


class WebhookSecret(msgspec.Struct, frozen=True):
    """The secret of callbacks. `text`: as it was given. `key`: the bytes that sign."""

    text: str
    key: bytes

    def __repr__(self) -> str:
        return "WebhookSecret(…)"


def parse_webhook_secret(text: str) -> WebhookSecret:
    """Return the secret that signs callbacks: the text in UTF-8 or, after whsec_, the bytes of its base64.

    Raises ValueError for a key that is too short.
    """
    encoded = text.removeprefix("whsec_")
    try:
        key = text.encode() if encoded == text else base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("the text after whsec_ is not base64") from None
    if len(key) < 16:
        raise ValueError("too short")
    return WebhookSecret(text, key)
