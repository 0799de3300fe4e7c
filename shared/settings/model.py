"""The settings: types, bounds, defaults and, for error messages, the accepted form.

A new setting is one field here, and a line in docs/settings.md.
"""

import sys
from collections.abc import Callable
from datetime import timedelta
from typing import Annotated, Any, Literal, get_args, get_type_hints

import msgspec

from shared.settings.values import (
    MqttAddress,
    TlsFiles,
    TopicFilter,
    WebhookSecret,
    check_api_key,
    check_bearer,
    check_database_url,
    parse_admin_url,
    parse_audit_age,
    parse_days,
    parse_duration,
    parse_mqtt_url,
    parse_networks,
    parse_optional_duration,
    parse_optional_size,
    parse_origins,
    parse_ports,
    parse_topic_filter,
    parse_webhook_secret,
)


class About(msgspec.Struct, frozen=True):
    """Description of a setting.

    `expected`: the accepted form, for error messages. `parse`: returns the value of the text; `check`: checks a value
    that is a text; both raise ValueError. `form`: msgspec type of the text, if it is not the field's. `secret`: whether
    the text, or a password in it, is never shown.
    """

    expected: str
    parse: Callable[[str], object] | None = None
    check: Callable[[str], object] | None = None
    form: Any = None
    secret: bool = False


def _text(
    expected: str, check: Callable[[str], object] | None = None, *, least: int = 1, secret: bool = False
) -> About:
    """Describe a text with a minimum length."""
    return About(expected, check=check, form=Annotated[str, msgspec.Meta(min_length=least)], secret=secret)


def _number(least: int, most: int, what: str = "a whole number", remark: str = "") -> About:
    """Describe a whole number."""
    return About(f"{what} from {least} to {most}{remark}", form=Annotated[int, msgspec.Meta(ge=least, le=most)])


_METRICS_PORT = _number(0, 65_535, "a port", "; 0 for none")


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """All settings, as values. The constructor also accepts a setting's text, and raises ValueError if it is wrong."""

    database_url: Annotated[
        str | None,
        _text("postgresql://user:password@host:5432/database", check_database_url, secret=True),
    ] = None
    mqtt_url: Annotated[
        MqttAddress | None,
        About(
            "mqtt://host:1883, mqtts://user:password@host:8883 or mqtt+unix:///path/to/socket",
            parse_mqtt_url,
            secret=True,
        ),
    ] = None
    mqtt_admin_url: Annotated[
        MqttAddress | None,
        About(
            "mqtts://admin:password@host:8883, with the user that administers Mosquitto's dynamic security",
            parse_admin_url,
            secret=True,
        ),
    ] = None
    mqtt_tls_ca: Annotated[
        str | None,
        _text("the path of a PEM file with the authorities that may have issued the broker's certificate"),
    ] = None
    mqtt_tls_cert: Annotated[
        str | None, _text("the path of a PEM file with a client certificate, if the broker requires one")
    ] = None
    mqtt_tls_key: Annotated[str | None, _text("the path of a PEM file with the key of MQTT_TLS_CERT")] = None
    mqtt_client_id: Annotated[
        str,
        About("1 to 128 characters", form=Annotated[str, msgspec.Meta(min_length=1, max_length=128)]),
    ] = "devicestat-ingestor"
    mqtt_topic: Annotated[
        TopicFilter,
        WebhookSecret,
        About(
            "a topic filter with the device's key as its only wildcard, such as devices/+/stats or "
            "$share/group/devices/+/stats",
            parse_topic_filter,
            parse_webhook_secret,
        ),
    ] = parse_topic_filter("devices/+/stats")
    broker_data_dir: Annotated[
        str | None, _text("the directory on this host that Mosquitto's persistence_location names")
    ] = None
    broker_passwords: Annotated[
        str | None, _text("the path on this host of the file that Mosquitto's password_file names")
    ] = None
    # At most about half of the packets that the journal identifies (ADR 3).
    mqtt_window: Annotated[int, _number(1, 32_767)] = 10_000
    batch_max_readings: Annotated[int, _number(1, 100_000)] = 20_000
    batch_linger_ms: Annotated[int, _number(0, 60_000, "a whole number of milliseconds")] = 0
    unknown_devices: Annotated[Literal["reject", "register"], About("reject or register")] = "reject"
    http_host: Annotated[str, _text("a host name or an address, such as 127.0.0.1")] = "127.0.0.1"
    http_port: Annotated[int, _number(0, 65_535, "a port", "; 0 for a free one")] = 8000
    ingestor_metrics_port: Annotated[int, _METRICS_PORT] = 9101
    worker_metrics_port: Annotated[int, _METRICS_PORT] = 9102
    auth: Annotated[Literal["off", "on"], About("on or off")] = "off"
    api_key: Annotated[str | None, _text("a key of `devicestat keys create`", check_api_key, secret=True, least=16)] = (
        None
    )
    device_secret: Annotated[
        str | None, _text("at least 32 characters, such as the output of `openssl rand -hex 32`", secret=True, least=32)
    ] = None
    mqtt_auth_secret: Annotated[
        str | None,
        _text(
            "at least 32 letters and digits, such as the output of `openssl rand -hex 32`",
            check_bearer,
            secret=True,
            least=32,
        ),
    ] = None
    metrics_token: Annotated[str | None, _text("at least 16 characters", check_bearer, secret=True, least=16)] = None
    trusted_proxies: Annotated[
        tuple[str, ...],
        About("addresses or networks separated by commas, such as 127.0.0.1,10.0.0.0/8", parse_networks),
    ] = ()
    cors_origins: Annotated[
        tuple[str, ...], About("origins separated by commas, such as https://plots.example.com, or *", parse_origins)
    ] = ()
    rate_limit: Annotated[int, _number(0, 1_000_000, "a whole number of requests per minute", "; 0 for no limit")] = 0
    query_timeout: Annotated[int, _number(1, 3600, "a whole number of seconds")] = 30
    worker_concurrency: Annotated[int, _number(1, 64)] = 2
    retention: Annotated[timedelta | None, About("a number of days, such as 400d", parse_days)] = None
    oldest: Annotated[timedelta, About("an age such as 10y or 400d", parse_duration)] = parse_duration("10y")
    dead_letters_keep: Annotated[timedelta | None, About("an age such as 90d, or none", parse_optional_duration)] = (
        timedelta(days=90)
    )
    dead_letters_max_bytes: Annotated[
        int | None, About("a size such as 1GB, 500MB or a number of bytes, or none", parse_optional_size)
    ] = 10**9
    dead_letters_per_minute: Annotated[int, _number(1, 1_000_000)] = 60
    results_keep: Annotated[timedelta | None, About("an age such as 400d, or none", parse_optional_duration)] = (
        timedelta(days=400)
    )
    audit_keep: Annotated[timedelta | None, About("an age of at least 30d such as 400d, or none", parse_audit_age)] = (
        None
    )
    start_timeout: Annotated[timedelta | None, About("a time such as 60s or 5m, or none", parse_optional_duration)] = (
        None
    )
    webhook_secret: Annotated[
        WebhookSecret | None,
        About("at least 16 characters, or whsec_ and at least 16 bytes in base64", parse_webhook_secret, secret=True),
    ] = None
    webhook_allow_private: Annotated[bool, About("true or false")] = False
    webhook_ports: Annotated[
        frozenset[int] | None, About("ports separated by commas, such as 80,443,8443, or all", parse_ports)
    ] = frozenset({80, 443})
    schedules_per_key: Annotated[int, _number(0, 1_000_000)] = 100
    queued_per_key: Annotated[int, _number(0, 1_000_000)] = 1000
    log_format: Annotated[Literal["console", "json"] | None, About("console or json")] = None
    log_level: Annotated[Literal["debug", "info", "warning", "error"], About("debug, info, warning or error")] = "info"

    def __post_init__(self) -> None:
        """Replace each setting that was given as text by its value, and add the TLS files to the addresses."""
        for name, about in DESCRIBED.items():
            if about.parse is not None and isinstance(value := getattr(self, name), str):
                msgspec.structs.force_setattr(self, name, parse(name, value))
        files = TlsFiles(ca=self.mqtt_tls_ca, cert=self.mqtt_tls_cert, key=self.mqtt_tls_key)
        for name, address in (("mqtt_url", self.mqtt_url), ("mqtt_admin_url", self.mqtt_admin_url)):
            if address is not None:
                msgspec.structs.force_setattr(self, name, msgspec.structs.replace(address, files=files))

    def __repr__(self) -> str:
        """Without the secrets, and the URLs, which may contain passwords."""
        shown = (f"{n}={getattr(self, n)!r}" for n in self.__struct_fields__ if n not in SECRETS)
        return f"Settings({', '.join(shown)})"

    @property
    def database(self) -> str:
        """URL of the database, for commands whose `load` requires it."""
        assert self.database_url is not None
        return self.database_url

    @property
    def broker(self) -> MqttAddress:
        """Address of the broker, for commands whose `load` requires it."""
        assert self.mqtt_url is not None
        return self.mqtt_url

    @property
    def broker_admin(self) -> MqttAddress:
        """Broker address used for administration."""
        assert self.mqtt_admin_url is not None
        return self.mqtt_admin_url

    @property
    def oldest_age(self) -> timedelta:
        """Age beyond which a reading is refused: OLDEST, or RETENTION if that is shorter."""
        return self.oldest if self.retention is None else min(self.oldest, self.retention)

    @property
    def tells_broker(self) -> bool:
        """Whether Devicestat manages the devices of the broker, by commands or by a password file."""
        return self.mqtt_admin_url is not None or self.broker_passwords is not None

    @property
    def logs_as_json(self) -> bool:
        """Whether log lines are JSON: as set, else unless they go to a terminal."""
        return self.log_format == "json" or (self.log_format is None and not sys.stderr.isatty())


_HINTS = get_type_hints(Settings, include_extras=True)
DESCRIBED: dict[str, About] = {name: get_args(hint)[-1] for name, hint in _HINTS.items()}
"""The description of each setting."""
SECRETS = tuple(name for name, about in DESCRIBED.items() if about.secret)
"""Settings that are never shown; of a URL, its password."""


def parse(name: str, given: object) -> Any:
    """Return the value of a setting that was given as text or, in TOML, as a number or a truth value.

    Raises ValueError and msgspec.ValidationError, with what is wrong.
    """
    _check_text(given)
    about = DESCRIBED[name]
    if about.parse is not None:
        return about.parse(msgspec.convert(given, str))
    value = msgspec.convert(given, about.form or _HINTS[name], strict=not isinstance(given, str))
    if about.check is not None:
        about.check(value)
    return value


def _check_text(given: object) -> None:
    """Raise ValueError for a NUL, and for bytes of the environment that are not UTF-8."""
    if isinstance(given, str) and ("\0" in given or any("\ud800" <= c <= "\udfff" for c in given)):
        raise ValueError("not text in UTF-8 without NUL characters")
