"""`DEVICESTAT_<NAME>_FILE` names a file with the setting. Errors do not show the content."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.errors import SettingsError
from shared.settings import Settings, load, overridden
from shared.settings.sources import MAX_FILE_BYTES

SECRET = "a secret that nobody is to see: 0f8e"
VALUES: dict[str, tuple[str, object]] = {
    "database_url": ("postgresql://u:p@h/d", "postgresql://u:p@h/d"),
    "mqtt_url": ("mqtt://h", "mqtt://h"),
    "http_port": ("8001", 8001),
    "webhook_allow_private": ("true", True),
    "auth": ("on", "on"),
    "device_secret": (SECRET, SECRET),
    "retention": ("30d", "30d"),
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "content"


@pytest.fixture
def unreadable(file: Path) -> Iterator[Path]:
    """A file that this user may not read; for root, who may read every file, a directory."""
    if os.geteuid() == 0:
        file.mkdir()
    else:
        file.touch(mode=0)
    return file


def fault(variables: dict[str, str]) -> str:
    with pytest.raises(SettingsError) as caught:
        load(variables)
    (told,) = caught.value.faults
    assert SECRET not in told
    return told


@pytest.mark.parametrize("name", VALUES)
def test_any_setting_may_come_from_a_file(name: str, file: Path) -> None:
    content, value = VALUES[name]
    file.write_text(f"{content}\n")
    assert load({f"DEVICESTAT_{name.upper()}_FILE": str(file)}) == Settings(**{name: value})  # type: ignore[arg-type]


def test_no_setting_has_a_name_that_would_be_taken_for_a_file() -> None:
    assert not [name for name in Settings.__struct_fields__ if name.endswith("_file")]


@pytest.mark.parametrize(
    ("content", "value"),
    [
        ("topic/+", "topic/+"),
        ("topic/+\n", "topic/+"),
        ("topic/+\r\n", "topic/+"),
        ("+/out\n\n", "+/out\n"),
        (" ü/+", " ü/+"),
    ],
)
def test_only_the_newline_at_the_end_is_no_part_of_the_value(content: str, value: str, file: Path) -> None:
    file.write_bytes(content.encode())
    assert load({"DEVICESTAT_MQTT_TOPIC_FILE": str(file)}).mqtt_topic.pattern == value


def test_it_wins_over_the_configuration_file(tmp_path: Path, file: Path) -> None:
    file.write_text("8002")
    config = tmp_path / "devicestat.toml"
    config.write_text("[devicestat]\nhttp_port = 8001\n")
    assert load({"DEVICESTAT_HTTP_PORT_FILE": str(file), "DEVICESTAT_CONFIG": str(config)}).http_port == 8002


def test_it_counts_as_given(file: Path) -> None:
    file.write_text("postgresql://h/d")
    assert load({"DEVICESTAT_DATABASE_URL_FILE": str(file)}, require=["database_url"]).database == "postgresql://h/d"


def test_both_ways_at_once_are_a_fault(file: Path) -> None:
    file.write_text(SECRET)
    plain, by_file = {"DEVICESTAT_DEVICE_SECRET": SECRET}, {"DEVICESTAT_DEVICE_SECRET_FILE": str(file)}
    for variables in (plain | by_file, by_file | plain):
        assert fault(variables) == (
            "DEVICESTAT_DEVICE_SECRET and DEVICESTAT_DEVICE_SECRET_FILE are both set: remove one of them"
        )


def test_a_file_that_cannot_be_read_is_reported_once(unreadable: Path) -> None:
    with pytest.raises(SettingsError) as caught:
        load({"DEVICESTAT_DATABASE_URL_FILE": str(unreadable)}, require=["database_url"])
    (told,) = caught.value.faults
    assert told.startswith(f"DEVICESTAT_DATABASE_URL_FILE: the file {unreadable} cannot be read: ")


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (None, "cannot be read: No such file or directory"),
        (b"", "is empty"),
        (b"\n", "is empty"),
        (SECRET.encode() + b"\xff", "is not UTF-8"),
        (SECRET.encode() + b"x" * MAX_FILE_BYTES, f"is larger than {MAX_FILE_BYTES} bytes"),
        (SECRET.encode() + "ü".encode() * MAX_FILE_BYTES, f"is larger than {MAX_FILE_BYTES} bytes"),
    ],
)
def test_a_file_that_holds_no_value_is_reported_by_its_path(content: bytes | None, what: str, file: Path) -> None:
    if content is not None:
        file.write_bytes(content)
    assert fault({"DEVICESTAT_MQTT_TOPIC_FILE": str(file)}) == f"DEVICESTAT_MQTT_TOPIC_FILE: the file {file} {what}"


def test_no_path_is_reported() -> None:
    assert fault({"DEVICESTAT_AUTH_FILE": ""}) == "DEVICESTAT_AUTH_FILE is empty: expected the path of a file"


@pytest.mark.parametrize("name", ["http_port", "http_host", "mqtt_topic", "trusted_proxies", "device_secret"])
def test_a_wrong_content_is_not_shown_whatever_the_setting(name: str, file: Path) -> None:
    file.write_text(f"{SECRET}\0")
    told = fault({f"DEVICESTAT_{name.upper()}_FILE": str(file)})
    assert told.startswith(f"DEVICESTAT_{name.upper()}_FILE (the file {file}) is invalid")


@pytest.mark.parametrize(
    ("variable", "hint"),
    [
        ("DEVICESTAT_HTTP_PROT_FILE", ": did you mean DEVICESTAT_HTTP_PORT_FILE?"),
        ("DEVICESTAT_CONFIG_FILE", ""),
        ("DEVICESTAT_NOTHING_LIKE_IT_FILE", ""),
    ],
)
def test_a_variable_that_names_no_setting_is_reported_and_its_file_not_read(
    variable: str, hint: str, file: Path
) -> None:
    assert fault({variable: str(file)}) == f"{variable} is not a setting of devicestat{hint}"


def test_what_only_the_tests_read_is_left_alone(file: Path) -> None:
    assert load({"DEVICESTAT_TEST_DATABASE_URL_FILE": str(file)}) == Settings()


def test_an_environment_for_others_has_each_setting_one_way() -> None:
    ours = {
        "DEVICESTAT_LOG_FORMAT_FILE": "/f",
        "DEVICESTAT_HTTP_PORT": "1",
        "DEVICESTAT_API_KEY_FILE": "/k",
        "HOME": "/",
    }
    theirs = overridden(ours, log_format="json", http_port="2")
    assert theirs == {
        "DEVICESTAT_LOG_FORMAT": "json", "DEVICESTAT_HTTP_PORT": "2", "DEVICESTAT_API_KEY_FILE": "/k", "HOME": "/"
    }  # fmt: skip
