"""Settings are validated together, and each fault has the name of its setting and the accepted form."""

import re
from datetime import timedelta
from pathlib import Path

import pytest

from shared.access.credentials import new_key
from shared.errors import SettingsError
from shared.serving.redaction import secrets_in
from shared.settings import SECRETS, Settings, load, parse_mqtt_url, parse_topic_filter

SECRET = "hunter2"
SHOWN = {"broker_passwords", "http_port", "mqtt_tls_key", "schedules_per_key", "queued_per_key"}
"""Settings that are no secrets in spite of their names: a path, ports, and limits for each key."""


def faults(environ: dict[str, str], config: Path | None = None, require: tuple[str, ...] = ()) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        load(environ, config, require=require)
    return list(caught.value.faults)


def test_the_defaults_are_the_contract() -> None:
    settings = load({})
    assert settings == Settings()
    assert (settings.mqtt_client_id, settings.mqtt_topic.pattern) == ("devicestat-ingestor", "devices/+/stats")
    assert (settings.mqtt_window, settings.batch_max_readings, settings.batch_linger_ms) == (10_000, 20_000, 0)
    assert (settings.http_host, settings.http_port) == ("127.0.0.1", 8000)
    assert (settings.ingestor_metrics_port, settings.worker_metrics_port) == (9101, 9102)
    assert (settings.unknown_devices, settings.worker_concurrency, settings.retention) == ("reject", 2, None)
    assert (settings.oldest_age, settings.dead_letters_keep) == (timedelta(days=3652.5), timedelta(days=90))
    assert (settings.dead_letters_max_bytes, settings.dead_letters_per_minute) == (10**9, 60)
    assert (settings.results_keep, settings.audit_keep, settings.start_timeout) == (timedelta(days=400), None, None)


def test_no_reading_is_taken_that_retention_would_drop() -> None:
    assert load({"DEVICESTAT_RETENTION": "400d"}).oldest_age == timedelta(days=400)
    assert load({"DEVICESTAT_RETENTION": "4000d", "DEVICESTAT_OLDEST": "2y"}).oldest_age == timedelta(days=730.5)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OLDEST", "none"),
        ("OLDEST", "10 years"),
        ("OLDEST", "0d"),
        ("OLDEST", "201y"),
        ("DEAD_LETTERS_KEEP", "90"),
        ("DEAD_LETTERS_MAX_BYTES", "1 gig"),
        ("DEAD_LETTERS_MAX_BYTES", "0"),
        ("DEAD_LETTERS_PER_MINUTE", "0"),
        ("RESULTS_KEEP", "-1d"),
        ("AUDIT_KEEP", ""),
        ("AUDIT_KEEP", "29d"),
        ("START_TIMEOUT", "1.5s"),
    ],
)
def test_a_limit_that_cannot_be_read_is_a_fault(name: str, value: str) -> None:
    (told,) = faults({f"DEVICESTAT_{name}": value})
    assert told.startswith(f"DEVICESTAT_{name} is invalid ({value!r}): expected")


def test_sizes_and_durations_have_units() -> None:
    settings = load(
        {
            "DEVICESTAT_DEAD_LETTERS_MAX_BYTES": "250 MB",
            "DEVICESTAT_DEAD_LETTERS_KEEP": "none",
            "DEVICESTAT_AUDIT_KEEP": "720h",
            "DEVICESTAT_START_TIMEOUT": "5m",
        }
    )
    assert (settings.dead_letters_max_bytes, settings.dead_letters_keep) == (250_000_000, None)
    assert (settings.audit_keep, settings.start_timeout) == (timedelta(days=30), timedelta(minutes=5))


def test_the_environment_wins_over_the_file(tmp_path: Path) -> None:
    config = tmp_path / "devicestat.toml"
    config.write_text('[devicestat]\nhttp_port = 8001\nhttp_host = "::1"\n')
    given = {"DEVICESTAT_HTTP_PORT": "8002", "DEVICESTAT_CONFIG": str(config), "HOME": "/"}
    settings = load(given)
    assert (settings.http_port, settings.http_host) == (8002, "::1")


def test_every_fault_is_reported_at_once_by_name() -> None:
    told = faults(
        {
            "DEVICESTAT_HTTP_PORT": "http",
            "DEVICESTAT_MQTT_WINDOW": "70000",
            "DEVICESTAT_MQTT_TOPIC": "devices/#",
            "DEVICESTAT_UNKNOWN_DEVICES": "ignore",
            "DEVICESTAT_RETENTION": "1 year",
            "DEVICESTAT_BATCH_LINGER": "50",
        },
        require=("database_url", "mqtt_url"),
    )
    assert told == [
        "DEVICESTAT_HTTP_PORT is invalid ('http'): expected a port from 0 to 65535; 0 for a free one",
        "DEVICESTAT_MQTT_WINDOW is invalid ('70000'): expected a whole number from 1 to 32767",
        (
            "DEVICESTAT_MQTT_TOPIC is invalid ('devices/#'): expected a topic filter with the device's key as its only "
            "wildcard, such as devices/+/stats or $share/group/devices/+/stats"
        ),
        "DEVICESTAT_UNKNOWN_DEVICES is invalid ('ignore'): expected reject or register",
        "DEVICESTAT_RETENTION is invalid ('1 year'): expected a number of days, such as 400d",
        "DEVICESTAT_BATCH_LINGER is not a setting of devicestat: did you mean DEVICESTAT_BATCH_LINGER_MS?",
        "DEVICESTAT_DATABASE_URL is not set: expected postgresql://user:password@host:5432/database",
        (
            "DEVICESTAT_MQTT_URL is not set: expected mqtt://host:1883, mqtts://user:password@host:8883 "
            "or mqtt+unix:///path/to/socket"
        ),
    ]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DATABASE_URL", f"mysql://user:{SECRET}@host/db"),
        ("DATABASE_URL", f"postgresql://user:{SECRET}@host:notaport:/db?%"),
        ("MQTT_URL", f"http://user:{SECRET}@host"),
        ("MQTT_URL", f"mqtt://user:{SECRET}@host:99999"),
        ("MQTT_URL", f"mqtt://user:{SECRET}@"),
        ("MQTT_URL", f"mqtt://user:{SECRET}@host/topic"),
        ("MQTT_URL", f"{SECRET}:word@host"),
        ("MQTT_URL", f"mqtt://user:{SECRET}"),
        ("MQTT_URL", f"mqtt://user:{SECRET}/word@host"),
        ("MQTT_URL", f"mqtt://user:{SECRET}#word@host"),
        ("MQTT_URL", f"mqtt://user:word[{SECRET}]@host"),
        ("MQTT_URL", f"mqtt://user:{SECRET}\u2100@host"),
        ("MQTT_ADMIN_URL", f"mqtt://{SECRET}@host"),
        ("DATABASE_URL", f"postgresql://user:word@{SECRET}@host/db"),
        ("DATABASE_URL", f"postgresql://user:{SECRET}/word@host/db"),
        ("DATABASE_URL", f"postgresql://user:5432/{SECRET}@host/db"),
        ("DATABASE_URL", f"postgresql://user@host:{SECRET}/db"),
        ("DATABASE_URL", f"host=db password={SECRET}"),
        ("API_KEY", f"{SECRET}-and-16-characters"),
        ("METRICS_TOKEN", f"{SECRET}\nand 16 characters"),
        ("METRICS_TOKEN", SECRET),
        ("MQTT_AUTH_SECRET", SECRET),
        ("MQTT_AUTH_SECRET", f"{SECRET}\nand 32 characters, and more"),
        ("DEVICE_SECRET", SECRET),
        ("WEBHOOK_SECRET", f"whsec_{SECRET}-and-16-characters"),
    ],
)
def test_a_wrong_secret_is_not_shown(name: str, value: str) -> None:
    (told,) = [fault for fault in faults({f"DEVICESTAT_{name}": value}) if "which is not set" not in fault]
    assert told.startswith(f"DEVICESTAT_{name} is invalid (")
    assert SECRET not in told
    assert "word" not in told.replace("password", "")


def test_every_setting_that_looks_like_a_secret_is_one() -> None:
    looks_like_one = re.compile("key|secret|token|password|url|credential")
    assert {name for name in Settings.__struct_fields__ if looks_like_one.search(name)} - SHOWN == set(SECRETS)


@pytest.mark.parametrize("name", SECRETS)
def test_no_secret_is_in_the_repr_of_the_settings(name: str) -> None:
    settings = Settings(**{name: f"mqtt://user:{SECRET}-and-thirty-two-characters@host"})  # type: ignore[arg-type]
    assert SECRET in "".join(secrets_in(settings))
    assert SECRET not in f"{settings!r} {settings}"


def test_the_password_is_not_in_the_repr_of_an_address() -> None:
    address = parse_mqtt_url(f"mqtt://user:{SECRET}@host")
    assert address.password == SECRET
    assert f"{address!r} {address}" == "host:1883 host:1883"


@pytest.mark.parametrize(
    ("given", "fault"),
    [
        ({"MQTT_TLS_CERT": "/c"}, "DEVICESTAT_MQTT_TLS_CERT needs DEVICESTAT_MQTT_TLS_KEY, which is not set: expected"),
        ({"MQTT_TLS_KEY": "/k"}, "DEVICESTAT_MQTT_TLS_KEY needs DEVICESTAT_MQTT_TLS_CERT, which is not set: expected"),
        (
            {"MQTT_ADMIN_URL": "mqtt://a:b@h"},
            "DEVICESTAT_MQTT_ADMIN_URL needs DEVICESTAT_DEVICE_SECRET, which is not set: expected at least 32",
        ),
    ],
)
def test_a_setting_that_needs_another_is_reported_with_the_other_faults(given: dict[str, str], fault: str) -> None:
    wrong, told = faults({"DEVICESTAT_AUTH": "yes"} | {f"DEVICESTAT_{name}": value for name, value in given.items()})
    assert wrong == "DEVICESTAT_AUTH is invalid ('yes'): expected on or off"
    assert told.startswith(fault)


def test_settings_that_need_each_other_are_taken_together() -> None:
    given = {"MQTT_TLS_CERT": "/c", "MQTT_TLS_KEY": "/k", "MQTT_ADMIN_URL": "mqtts://a:b@h", "DEVICE_SECRET": "s" * 32}
    settings = load({f"DEVICESTAT_{name}": value for name, value in given.items()})
    assert (settings.broker_admin.files.cert, settings.broker_admin.files.key) == ("/c", "/k")


def test_files_of_tls_are_not_ignored() -> None:
    files = {"DEVICESTAT_MQTT_TLS_CA": "ca.pem"}
    assert load(files).mqtt_tls_ca == "ca.pem"  # a settings file may serve several commands
    admin = {"DEVICESTAT_MQTT_ADMIN_URL": "mqtts://a:b@h", "DEVICESTAT_DEVICE_SECRET": "s" * 32}
    assert load({**files, **admin, "DEVICESTAT_MQTT_URL": "mqtt+unix:///run/mosquitto"}).mqtt_url
    with pytest.raises(SettingsError) as error:
        load({**files, "DEVICESTAT_MQTT_URL": "mqtt://u:secret@h"})
    assert error.value.faults == (
        "DEVICESTAT_MQTT_TLS_CA is set, and DEVICESTAT_MQTT_URL without TLS: write mqtts:// instead of mqtt://",
    )


def test_a_key_of_the_api_is_taken() -> None:
    key = new_key().text
    assert load({"DEVICESTAT_API_KEY": key}).api_key == key


@pytest.mark.parametrize("value", ["a\0b", "a\udcffb"])
def test_what_is_no_text_is_refused(value: str) -> None:
    (told,) = faults({"DEVICESTAT_HTTP_HOST": value})
    assert told == f"DEVICESTAT_HTTP_HOST is invalid ({value!r}): expected a host name or an address, such as 127.0.0.1"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[devicestat\n", "is not TOML"),
        ("[other]\n", "takes only the table [devicestat]"),
        (
            "[devicestat]\nhttp_prot = 1\n",
            "http_prot in {path} is not a setting of devicestat: did you mean http_port?",
        ),
        ('[devicestat]\nhttp_port = "8000"\n', None),
        ("[devicestat]\nhttp_port = 1.5\n", "http_port in {path} is invalid (1.5)"),
    ],
)
def test_a_file_is_held_to_the_same_rules(tmp_path: Path, text: str, says: str | None) -> None:
    config = tmp_path / "devicestat.toml"
    config.write_text(text)
    if says is None:
        assert load({}, config).http_port == 8000
    else:
        (told,) = faults({}, config)
        assert says.format(path=config) in told


def test_a_missing_file_is_reported(tmp_path: Path) -> None:
    (told,) = faults({}, tmp_path / "none.toml")
    assert "none.toml cannot be read" in told


def test_mqtt_urls() -> None:
    plain, tls = parse_mqtt_url("mqtt://broker"), parse_mqtt_url("mqtts://us%40er:p%3Aw@broker")
    assert (plain.host, plain.port, plain.tls, plain.username, plain.password) == ("broker", 1883, False, None, None)
    assert (tls.port, tls.tls, tls.username, tls.password) == (8883, True, "us@er", "p:w")
    assert parse_mqtt_url("mqtt://[::1]:1884").host == "::1"
    assert parse_mqtt_url("mqtt+unix:///run/mosquitto.sock").unix_socket == "/run/mosquitto.sock"


@pytest.mark.parametrize(
    ("pattern", "topic", "key"),
    [
        ("devices/+/stats", "devices/7/stats", "7"),
        ("devices/+/stats", "devices/7/stat", None),
        ("devices/+/stats", "devices//stats", ""),
        ("$share/g/devices/+/stats", "devices/a b/stats", "a b"),
        ("+", "lathe", "lathe"),
        ("plant/1/+/out", "plant/1/x/out", "x"),
    ],
)
def test_the_key_is_what_stands_in_the_place_of_the_wildcard(pattern: str, topic: str, key: str | None) -> None:
    assert parse_topic_filter(pattern).key(topic) == key


@pytest.mark.parametrize("pattern", ["", "devices/stats", "+/+/stats", "devices/+/#", "$share/+", "$share//+", "a+/+"])
def test_a_subscription_without_exactly_one_wildcard_is_refused(pattern: str) -> None:
    with pytest.raises(ValueError, match=r"\+ level|group"):
        parse_topic_filter(pattern)
