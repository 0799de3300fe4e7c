"""Settings: read from the environment and a TOML file, validated together, before any I/O.

Each setting is `DEVICESTAT_<NAME>` in the environment and `<name>` in the file's `[devicestat]` table;
the environment wins. `load` reports every fault at once, each by its name and with what would be right.
Values never appear in a fault where they may hold a password.
"""

import base64
import binascii
import difflib
import ipaddress
import re
import sys
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import unquote, urlsplit

import msgspec
from psycopg import ProgrammingError
from psycopg.conninfo import conninfo_to_dict

from shared.errors import SettingsError

PREFIX = "DEVICESTAT_"
CONFIG = "DEVICESTAT_CONFIG"
TEST_PREFIX = "DEVICESTAT_TEST_"  # read by the test suite alone

_Port = Annotated[int, msgspec.Meta(ge=0, le=65_535)]
_Text = Annotated[str, msgspec.Meta(min_length=1)]


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """All settings, with their defaults; None where there is none."""

    database_url: _Text | None = None
    mqtt_url: _Text | None = None
    mqtt_admin_url: _Text | None = None
    mqtt_tls_ca: _Text | None = None
    mqtt_tls_cert: _Text | None = None
    mqtt_tls_key: _Text | None = None
    mqtt_client_id: Annotated[str, msgspec.Meta(min_length=1, max_length=128)] = "devicestat-ingestor"
    mqtt_topic: _Text = "devices/+/stats"
    # At most about half of what the journal answers for (ADR 3).
    mqtt_window: Annotated[int, msgspec.Meta(ge=1, le=32_767)] = 10_000
    batch_max_readings: Annotated[int, msgspec.Meta(ge=1, le=100_000)] = 5_000
    batch_linger_ms: Annotated[int, msgspec.Meta(ge=0, le=60_000)] = 50
    unknown_devices: Literal["reject", "register"] = "reject"
    http_host: _Text = "127.0.0.1"
    http_port: _Port = 8000
    ingestor_metrics_port: _Port = 9101
    worker_metrics_port: _Port = 9102
    auth: Literal["off", "on"] = "off"
    api_key: Annotated[str, msgspec.Meta(min_length=16)] | None = None
    device_secret: Annotated[str, msgspec.Meta(min_length=32)] | None = None
    metrics_token: Annotated[str, msgspec.Meta(min_length=16)] | None = None
    trusted_proxies: str = ""
    cors_origins: str = ""
    rate_limit: Annotated[int, msgspec.Meta(ge=0, le=1_000_000)] = 0
    query_timeout: Annotated[int, msgspec.Meta(ge=1, le=3600)] = 30
    worker_concurrency: Annotated[int, msgspec.Meta(ge=1, le=64)] = 2
    retention: Annotated[str, msgspec.Meta(pattern=r"^[1-9][0-9]{0,4}d$")] | None = None
    webhook_secret: Annotated[str, msgspec.Meta(min_length=16)] | None = None
    webhook_allow_private: bool = False
    log_format: Literal["console", "json"] | None = None
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    def __repr__(self) -> str:
        """Without the secrets, and the URLs, which may hold passwords."""
        shown = (f"{n}={getattr(self, n)!r}" for n in self.__struct_fields__ if n not in _SECRET)
        return f"Settings({', '.join(shown)})"

    @property
    def database(self) -> str:
        """The database's URL, by a command that has `load` require it."""
        assert self.database_url is not None
        return self.database_url

    @property
    def broker(self) -> "MqttAddress":
        """The broker's address, by a command that has `load` require it."""
        assert self.mqtt_url is not None
        return parse_mqtt_url(self.mqtt_url)

    @property
    def tls(self) -> "TlsFiles":
        """What a connection to the broker by mqtts:// is made with."""
        return TlsFiles(ca=self.mqtt_tls_ca, cert=self.mqtt_tls_cert, key=self.mqtt_tls_key)

    @property
    def retention_age(self) -> timedelta | None:
        """How long ago a month must have ended to be dropped."""
        return None if self.retention is None else timedelta(days=int(self.retention.removesuffix("d")))

    @property
    def logs_as_json(self) -> bool:
        """Whether log lines are JSON: as set, else unless they go to a terminal."""
        return self.log_format == "json" or (self.log_format is None and not sys.stderr.isatty())


class MqttAddress(msgspec.Struct, frozen=True, kw_only=True):
    """Where a broker listens: a host and port, or the path of a Unix socket."""

    host: str
    port: int
    tls: bool = False
    username: str | None = None
    password: str | None = None
    unix_socket: str | None = None

    def __str__(self) -> str:
        """The address without user and password."""
        return f"unix socket {self.unix_socket}" if self.unix_socket else f"{self.host}:{self.port}"

    __repr__ = __str__


class TlsFiles(msgspec.Struct, frozen=True, kw_only=True):
    """PEM files: whom to trust instead of the system's authorities, and who we are."""

    ca: str | None = None
    cert: str | None = None
    key: str | None = None


class TopicFilter(msgspec.Struct, frozen=True):
    """The subscription: what stands before and after the one level that is the device's key."""

    pattern: str
    prefix: str
    suffix: str

    def key(self, topic: str) -> str | None:
        """The device's key in the topic, None where the topic is not of this form."""
        if not (topic.startswith(self.prefix) and topic.endswith(self.suffix)):
            return None
        return topic[len(self.prefix) : len(topic) - len(self.suffix)]


_EXPECTED = {
    "database_url": "postgresql://user:password@host:5432/database",
    "mqtt_url": "mqtt://host:1883, mqtts://user:password@host:8883 or mqtt+unix:///path/to/socket",
    "mqtt_admin_url": "mqtts://admin:password@host:8883, as who Mosquitto's dynamic security is administered",
    "mqtt_tls_ca": "the path of a PEM file with the authorities that the broker's certificate may be of",
    "mqtt_tls_cert": "the path of a PEM file with our certificate, if the broker wants one",
    "mqtt_tls_key": "the path of a PEM file with the key of MQTT_TLS_CERT",
    "mqtt_client_id": "1 to 128 characters",
    "mqtt_topic": "a topic filter with the device's key as its only wildcard, such as devices/+/stats "
    "or $share/group/devices/+/stats",
    "mqtt_window": "a whole number from 1 to 32767",
    "batch_max_readings": "a whole number from 1 to 100000",
    "batch_linger_ms": "a whole number of milliseconds from 0 to 60000",
    "unknown_devices": "reject or register",
    "http_host": "a host name or an address, such as 127.0.0.1",
    "http_port": "a port from 0 to 65535; 0 takes a free one",
    "ingestor_metrics_port": "a port from 1 to 65535, or 0 for none",
    "worker_metrics_port": "a port from 1 to 65535, or 0 for none",
    "auth": "on or off",
    "api_key": "a key that `devicestat keys create` has shown",
    "device_secret": "at least 32 characters, such as `openssl rand -hex 32` gives",
    "metrics_token": "at least 16 characters",
    "trusted_proxies": "addresses or networks, with commas between, such as 127.0.0.1,10.0.0.0/8",
    "cors_origins": "origins, with commas between, such as https://plots.example.com, or *",
    "rate_limit": "a whole number of requests a minute from 0 (no limit) to 1000000",
    "query_timeout": "a whole number of seconds from 1 to 3600",
    "worker_concurrency": "a whole number from 1 to 64",
    "retention": "a number of days, such as 400d",
    "webhook_secret": "at least 16 characters, or whsec_ and at least 16 bytes in base64",
    "webhook_allow_private": "true or false",
    "log_format": "console or json",
    "log_level": "debug, info, warning or error",
}


def load(environ: Mapping[str, str], config: Path | None = None, *, require: Iterable[str] = ()) -> Settings:
    """The settings from the file (`config`, else `DEVICESTAT_CONFIG`) and the environment.

    `require`: names of settings that this command cannot do without.
    Raises SettingsError with every fault.
    """
    if config is None and environ.get(CONFIG):
        config = Path(environ[CONFIG])
    given: dict[str, tuple[str, Any]] = {}
    faults: list[str] = []
    if config is not None:
        try:
            given.update(_from_file(config))
        except SettingsError as error:
            faults.extend(error.faults)
    given.update(_from_environment(environ))
    values: dict[str, Any] = {}
    for name, (source, raw) in given.items():
        try:
            values[name] = _convert(name, source, raw)
        except SettingsError as error:
            faults.extend(error.faults)
    faults.extend(
        f"{PREFIX}{name.upper()} is not set: it takes {_EXPECTED[name]}" for name in require if name not in given
    )
    if faults:
        raise SettingsError(faults)
    return Settings(**values)


def parse_mqtt_url(url: str) -> MqttAddress:
    """The broker's address in a URL. Raises ValueError, without the URL, which may hold a password."""
    parts = urlsplit(url)
    if parts.scheme == "mqtt+unix":
        if parts.netloc or not parts.path.startswith("/"):
            raise ValueError("mqtt+unix takes three slashes and an absolute path")
        return MqttAddress(host="localhost", port=0, unix_socket=unquote(parts.path))
    if parts.scheme not in ("mqtt", "mqtts"):
        raise ValueError(f"{parts.scheme or 'no'} scheme")
    if not parts.hostname:
        raise ValueError("no host")
    if not _is_host(parts.hostname):
        raise ValueError("no such host name can be")
    if parts.path not in ("", "/") or parts.query or parts.fragment:
        raise ValueError("something after the port")
    tls = parts.scheme == "mqtts"
    return MqttAddress(
        host=parts.hostname,
        port=parts.port or (8883 if tls else 1883),
        tls=tls,
        username=unquote(parts.username) if parts.username else None,
        password=unquote(parts.password) if parts.password is not None else None,
    )


def _is_host(name: str) -> bool:
    try:
        name.encode("idna")
    except UnicodeError:
        return False
    return True


def parse_topic_filter(pattern: str) -> TopicFilter:
    """The parts of a subscription with exactly one `+` level. Raises ValueError for another form."""
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


def _check_database_url(url: str) -> None:
    if not re.match(r"postgres(ql)?://", url):
        raise ValueError("no postgresql:// in front")
    try:
        conninfo_to_dict(url)
    except ProgrammingError:
        raise ValueError("libpq cannot read it") from None


def _check_admin_url(url: str) -> None:
    address = parse_mqtt_url(url)
    if address.username is None or address.password is None:
        raise ValueError("no user and password")


def listed(value: str) -> list[str]:
    """The parts of a setting that has commas between them."""
    return [part.strip() for part in value.split(",") if part.strip()]


def networks(value: str) -> "list[ipaddress.IPv4Network | ipaddress.IPv6Network]":
    """The networks of a setting. Raises ValueError, naming the part that is none."""
    return [ipaddress.ip_network(part) for part in listed(value)]


def _check_origins(value: str) -> None:
    for origin in listed(value):
        parts = urlsplit(origin)
        if origin != "*" and (parts.scheme not in ("http", "https") or origin != f"{parts.scheme}://{parts.netloc}"):
            raise ValueError(f"{origin!r} is no origin")


def webhook_key(secret: str) -> bytes:
    """The key that callbacks are signed with: the text in UTF-8 or, after whsec_, what its base64 stands for.

    Raises ValueError, without the secret, for one that is too short.
    """
    encoded = secret.removeprefix("whsec_")
    if encoded == secret:
        return secret.encode()
    try:
        key = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("no base64 after whsec_") from None
    if len(key) < 16:
        raise ValueError("too short")
    return key


_CHECKS = {
    "database_url": _check_database_url,
    "mqtt_url": parse_mqtt_url,
    "mqtt_admin_url": _check_admin_url,
    "mqtt_topic": parse_topic_filter,
    "trusted_proxies": networks,
    "cors_origins": _check_origins,
    "webhook_secret": webhook_key,
}
_SECRET = (
    "database_url", "mqtt_url", "mqtt_admin_url", "api_key", "device_secret", "metrics_token", "webhook_secret"
)  # fmt: skip


def _convert(name: str, source: str, raw: Any) -> Any:
    field = _FIELDS.get(name)
    if field is None:
        close = difflib.get_close_matches(name, _FIELDS, n=1)
        hint = f": did you mean {_styled_as(source, close[0])}?" if close else ""
        raise SettingsError([f"{source} is no setting of devicestat{hint}"])
    try:
        value = msgspec.convert(raw, field, strict=not isinstance(raw, str))
        if name in _CHECKS:
            _CHECKS[name](value)
    except (ValueError, msgspec.ValidationError) as error:
        shown = str(error) if name in _SECRET else repr(raw)
        raise SettingsError([f"{source} is wrong ({shown}): it takes {_EXPECTED[name]}"]) from error
    return value


_FIELDS: dict[str, Any] = {field.name: field.type for field in msgspec.structs.fields(Settings)}


def _styled_as(source: str, name: str) -> str:
    return f"{PREFIX}{name.upper()}" if source.startswith(PREFIX) else name


def _from_environment(environ: Mapping[str, str]) -> Iterator[tuple[str, tuple[str, str]]]:
    for variable, value in environ.items():
        if variable.startswith(PREFIX) and variable != CONFIG and not variable.startswith(TEST_PREFIX):
            yield variable.removeprefix(PREFIX).lower(), (variable, value)


def _from_file(path: Path) -> dict[str, tuple[str, Any]]:
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError([f"the configuration file {path} cannot be read: {error.strerror}"]) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError([f"the configuration file {path} is not TOML: {error}"]) from error
    table = document.pop("devicestat", {})
    if document or not isinstance(table, dict):
        raise SettingsError([f"the configuration file {path} takes one table, [devicestat], and nothing else"])
    return {name: (f"{name} in {path}", value) for name, value in table.items()}
