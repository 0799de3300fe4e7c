"""Settings: read from the environment, from files and from a TOML file, validated together, before any I/O.

Each setting is `DEVICESTAT_<NAME>` in the environment or, as the content of a file, `DEVICESTAT_<NAME>_FILE`, and
`<name>` in the `[devicestat]` table of the TOML file; the environment wins. `load` reports every fault at once, each
by its name and with what would be right. Values never appear in a fault where they may hold a password.

- `setting_sources` says what was given, and where.
- `setting_values` says what the text of it stands for.
"""

import difflib
import sys
from collections.abc import Iterable, Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from shared.errors import SettingsError
from shared.settings.sources import CONFIG, FILE, PREFIX, Given, from_environment, from_toml, overridden, variable
from shared.settings.values import (
    MqttAddress,
    TlsFiles,
    TopicFilter,
    check_admin_url,
    check_api_key,
    check_audit_age,
    check_bearer,
    check_database_url,
    check_origins,
    listed,
    networks,
    parse_duration,
    parse_mqtt_url,
    parse_optional_duration,
    parse_optional_size,
    parse_ports,
    parse_topic_filter,
    webhook_key,
)

__all__ = [
    "CONFIG", "PREFIX", "SECRETS", "MqttAddress", "Settings", "TlsFiles", "TopicFilter", "listed", "load",
    "networks", "overridden", "parse_mqtt_url", "parse_ports", "parse_topic_filter", "webhook_key",
]  # fmt: skip

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
    broker_data_dir: _Text | None = None
    mqtt_auth_secret: Annotated[str, msgspec.Meta(min_length=32)] | None = None
    broker_passwords: _Text | None = None
    # At most about half of what the journal answers for (ADR 3).
    mqtt_window: Annotated[int, msgspec.Meta(ge=1, le=32_767)] = 10_000
    batch_max_readings: Annotated[int, msgspec.Meta(ge=1, le=100_000)] = 20_000
    batch_linger_ms: Annotated[int, msgspec.Meta(ge=0, le=60_000)] = 0
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
    oldest: _Text = "10y"
    dead_letters_keep: _Text = "90d"
    dead_letters_max_bytes: _Text = "1GB"
    dead_letters_per_minute: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)] = 60
    results_keep: _Text = "400d"
    audit_keep: _Text = "none"
    start_timeout: _Text = "none"
    webhook_secret: Annotated[str, msgspec.Meta(min_length=16)] | None = None
    webhook_allow_private: bool = False
    webhook_ports: _Text = "80,443"
    schedules_per_key: Annotated[int, msgspec.Meta(ge=0, le=1_000_000)] = 100
    queued_per_key: Annotated[int, msgspec.Meta(ge=0, le=1_000_000)] = 1000
    log_format: Literal["console", "json"] | None = None
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    def __repr__(self) -> str:
        """Without the secrets, and the URLs, which may hold passwords."""
        shown = (f"{n}={getattr(self, n)!r}" for n in self.__struct_fields__ if n not in SECRETS)
        return f"Settings({', '.join(shown)})"

    @property
    def database(self) -> str:
        """The database's URL, by a command that has `load` require it."""
        assert self.database_url is not None
        return self.database_url

    @property
    def broker(self) -> MqttAddress:
        """The broker's address, by a command that has `load` require it."""
        assert self.mqtt_url is not None
        return self._address(self.mqtt_url)

    @property
    def broker_admin(self) -> MqttAddress:
        """The same of who administers the broker."""
        assert self.mqtt_admin_url is not None
        return self._address(self.mqtt_admin_url)

    def _address(self, url: str) -> MqttAddress:
        files = TlsFiles(ca=self.mqtt_tls_ca, cert=self.mqtt_tls_cert, key=self.mqtt_tls_key)
        return msgspec.structs.replace(parse_mqtt_url(url), files=files)

    @property
    def retention_age(self) -> timedelta | None:
        """How long ago a month must have ended to be dropped."""
        return None if self.retention is None else timedelta(days=int(self.retention.removesuffix("d")))

    @property
    def oldest_age(self) -> timedelta:
        """Age beyond which a reading is refused: OLDEST, or RETENTION where that is shorter."""
        oldest = parse_duration(self.oldest)
        return oldest if self.retention_age is None else min(oldest, self.retention_age)

    @property
    def dead_letters_age(self) -> timedelta | None:
        """Age at which a dead letter is deleted; None: never."""
        return parse_optional_duration(self.dead_letters_keep)

    @property
    def dead_letters_size(self) -> int | None:
        """Bytes that dead letters may occupy; None: no bound."""
        return parse_optional_size(self.dead_letters_max_bytes)

    @property
    def results_age(self) -> timedelta | None:
        """Age at which an ended analysis request is deleted with its result; None: never."""
        return parse_optional_duration(self.results_keep)

    @property
    def tells_broker(self) -> bool:
        """Whether the broker is told of devices, one way or the other."""
        return self.mqtt_admin_url is not None or self.broker_passwords is not None

    @property
    def audit_age(self) -> timedelta | None:
        """Age at which an entry of the audit log is deleted; None: never."""
        return parse_optional_duration(self.audit_keep)

    @property
    def start_patience(self) -> timedelta | None:
        """Time that a service waits at its start for a server that is not there yet; None: without end."""
        return parse_optional_duration(self.start_timeout)

    @property
    def logs_as_json(self) -> bool:
        """Whether log lines are JSON: as set, else unless they go to a terminal."""
        return self.log_format == "json" or (self.log_format is None and not sys.stderr.isatty())


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
    "broker_data_dir": "the directory on this host that Mosquitto's persistence_location names",
    "mqtt_auth_secret": "at least 32 letters and digits, such as `openssl rand -hex 32` gives",
    "broker_passwords": "the path on this host of the file that Mosquitto's password_file names",
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
    "oldest": "an age such as 10y or 400d",
    "dead_letters_keep": "an age such as 90d, or none",
    "dead_letters_max_bytes": "a size such as 1GB, 500MB or a number of bytes, or none",
    "dead_letters_per_minute": "a whole number from 1 to 1000000",
    "results_keep": "an age such as 400d, or none",
    "audit_keep": "an age of at least 30d such as 400d, or none",
    "start_timeout": "a time such as 60s or 5m, or none",
    "webhook_secret": "at least 16 characters, or whsec_ and at least 16 bytes in base64",
    "webhook_allow_private": "true or false",
    "webhook_ports": "ports with commas between, such as 80,443,8443, or all",
    "schedules_per_key": "a whole number from 0 to 1000000",
    "queued_per_key": "a whole number from 0 to 1000000",
    "log_format": "console or json",
    "log_level": "debug, info, warning or error",
}


SECRETS = (
    "database_url", "mqtt_url", "mqtt_admin_url", "api_key", "device_secret", "metrics_token", "webhook_secret",
    "mqtt_auth_secret",
)  # fmt: skip
"""The settings that are never shown; of a URL, the password in it."""
_CHECKS = {
    "database_url": check_database_url,
    "mqtt_url": parse_mqtt_url,
    "mqtt_admin_url": check_admin_url,
    "mqtt_topic": parse_topic_filter,
    "oldest": parse_duration,
    "dead_letters_keep": parse_optional_duration,
    "dead_letters_max_bytes": parse_optional_size,
    "results_keep": parse_optional_duration,
    "audit_keep": check_audit_age,
    "start_timeout": parse_optional_duration,
    "api_key": check_api_key,
    "metrics_token": check_bearer,
    "mqtt_auth_secret": check_bearer,
    "trusted_proxies": networks,
    "cors_origins": check_origins,
    "webhook_secret": webhook_key,
    "webhook_ports": parse_ports,
}
_NEEDS = {
    "mqtt_tls_cert": ("mqtt_tls_key",),
    "mqtt_tls_key": ("mqtt_tls_cert",),
    "mqtt_admin_url": ("device_secret",),
    "broker_passwords": ("device_secret", "mqtt_url"),
}
_FIELDS: dict[str, Any] = {field.name: field.type for field in msgspec.structs.fields(Settings)}


def load(environ: Mapping[str, str], config: Path | None = None, *, require: Iterable[str] = ()) -> Settings:
    """The settings from the file (`config`, else `DEVICESTAT_CONFIG`) and the environment.

    `require`: names of settings that this command cannot do without.
    Raises SettingsError with every fault.
    """
    if config is None and environ.get(CONFIG):
        config = Path(environ[CONFIG])
    given: dict[str, Given] = {}
    faults: list[str] = []
    if config is not None:
        try:
            given.update(from_toml(config))
        except SettingsError as error:
            faults.extend(error.faults)
    given.update(from_environment(environ, _FIELDS))
    values: dict[str, Any] = {}
    for name, one in given.items():
        try:
            values[name] = _convert(name, one)
        except SettingsError as error:
            faults.extend(error.faults)
    faults.extend(_missing(given, require))
    faults.extend(_unencrypted(values))
    if faults:
        raise SettingsError(faults)
    return Settings(**values)


def _missing(given: Mapping[str, Given], require: Iterable[str]) -> Iterator[str]:
    for name in require:
        if name not in given:
            yield f"{variable(name)} is not set: it takes {_EXPECTED[name]}"
    for name, other in ((name, other) for name, others in _NEEDS.items() for other in others):
        if name in given and other not in given:
            yield f"{variable(name)} needs {variable(other)}, which is not set: it takes {_EXPECTED[other]}"
    if "mqtt_admin_url" in given and "broker_passwords" in given:
        yield (
            f"{variable('mqtt_admin_url')} and {variable('broker_passwords')} are both set: the broker is told of "
            "devices one way or the other"
        )


def _unencrypted(values: Mapping[str, Any]) -> Iterator[str]:
    """Who names authorities or a certificate believes that the connection is encrypted."""
    files = [name for name in ("mqtt_tls_ca", "mqtt_tls_cert", "mqtt_tls_key") if values.get(name) is not None]
    urls = [name for name in ("mqtt_url", "mqtt_admin_url") if values.get(name) is not None]
    if files and urls and not any(parse_mqtt_url(values[url]).tls for url in urls):
        given = " and ".join(variable(url) for url in urls)
        yield f"{variable(files[0])} is set, and {given} without TLS: write mqtts:// instead of mqtt://"


def _convert(name: str, given: Given) -> Any:
    if given.fault:
        raise SettingsError([given.fault])
    field = _FIELDS.get(name)
    if field is None:
        raise SettingsError([f"{given.source} is no setting of devicestat{_hint(name, given.source)}"])
    try:
        value = msgspec.convert(given.value, field, strict=not isinstance(given.value, str))
        _check_text(value)
        if name in _CHECKS:
            _CHECKS[name](value)
    except (ValueError, msgspec.ValidationError) as error:
        raise SettingsError(
            [f"{given.source} is wrong{_shown(name, given, error)}: it takes {_EXPECTED[name]}"]
        ) from None
    return value


def _shown(name: str, given: Given, error: Exception) -> str:
    if name in SECRETS:
        return f" ({error})"
    return f" ({given.value!r})" if given.may_be_shown else ""


def _check_text(value: object) -> None:
    """Raises ValueError for what no server takes: a NUL, and bytes of the environment that are not UTF-8."""
    if isinstance(value, str) and ("\0" in value or any("\ud800" <= c <= "\udfff" for c in value)):
        raise ValueError("not text in UTF-8 without NUL characters")


def _hint(name: str, source: str) -> str:
    by_file = source.startswith(PREFIX) and source.endswith(FILE)
    close = difflib.get_close_matches(name.removesuffix(FILE.lower()) if by_file else name, _FIELDS, n=1)
    if not close:
        return ""
    meant = f"{variable(close[0])}{FILE if by_file else ''}" if source.startswith(PREFIX) else close[0]
    return f": did you mean {meant}?"
