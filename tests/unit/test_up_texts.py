"""Commands in the panel of `devicestat up`, and Mosquitto's derived configuration."""

import shlex
from pathlib import Path

import pytest

from deploy.devices.api_client import ApiDevice, base_url
from deploy.local.mosquitto import derive
from deploy.local.panel import panel_lines
from deploy.local.postgres import SOCKET_PATH_BYTES, socket_directory
from shared.settings import parse_mqtt_url, parse_topic_filter

API = "http://127.0.0.1:8000"
BROKER = parse_mqtt_url("mqtt://127.0.0.1:1883")
TOPIC = parse_topic_filter("devices/+/stats")


def pasted(lines: list[str]) -> list[list[str]]:
    """Return the commands as a shell splits them."""
    return [shlex.split(line) for line in lines if line and not line.startswith(" ")]


def test_with_devices_the_lines_look_at_the_first_of_them() -> None:
    lines = panel_lines(API, BROKER, TOPIC, ApiDevice(id=4, key="sim-1"), demo=True, exports={})
    assert lines[1].split() == ["Dashboard", f"{API}/"]
    assert pasted(lines) == [
        ["curl", f"{API}/devices"],
        ["curl", f"{API}/stats/4?limit=5"],
        ["curl", f"{API}/stats/analysis/4"],
    ]


def test_without_devices_the_lines_register_one_and_publish() -> None:
    register, publish, analyse = pasted(panel_lines(API, BROKER, TOPIC, None, demo=False, exports={}))
    assert register[-3:] == ["-d", '{"name": "Boiler"}', f"{API}/devices"]
    assert publish[:9] == ["mosquitto_pub", "-h", "127.0.0.1", "-p", "1883", "-q", "1", "-t", "devices/1/stats"]
    assert analyse == ["sleep", "1;", "curl", f"{API}/stats/analysis/1"]


def test_with_a_device_the_lines_publish_to_it_and_register_none() -> None:
    device = ApiDevice(id=4, key="boiler")
    devices, publish, analyse = pasted(panel_lines(API, BROKER, TOPIC, device, demo=False, exports={}))
    assert devices == ["curl", f"{API}/devices"]
    assert "devices/boiler/stats" in publish
    assert analyse[-1] == f"{API}/stats/analysis/4"


def test_the_topic_is_the_one_that_is_subscribed_to() -> None:
    topic = parse_topic_filter("$share/ingestors/plant/+/v1")
    lines = panel_lines(API, BROKER, topic, None, demo=False, exports={})
    assert any(line.endswith("topic plant/<key>/v1") for line in lines)
    assert "plant/1/v1" in pasted(lines)[1]


def test_a_key_with_a_quote_does_not_end_the_quoting() -> None:
    publish = pasted(panel_lines(API, BROKER, TOPIC, ApiDevice(id=1, key="a'b"), demo=False, exports={}))[1]
    assert "devices/a'b/stats" in publish


def test_the_settings_for_other_commands_survive_the_shell() -> None:
    url = "postgresql://postgres@/devicestat?host=/a b&port=5432"
    line = next(
        line for line in panel_lines(API, BROKER, TOPIC, None, demo=False, exports={"URL": url}) if "export" in line
    )
    assert shlex.split(line)[-1] == f"URL={url}"


@pytest.mark.parametrize(
    ("host", "url"),
    [("127.0.0.1", "http://127.0.0.1:80"), ("0.0.0.0", "http://127.0.0.1:80"), ("::", "http://[::1]:80")],
)
def test_a_service_is_reached_where_it_listens(host: str, url: str) -> None:
    assert base_url(host, 80) == url


def test_a_derived_configuration_has_each_option_once() -> None:
    template = "# why\nlistener 1883 127.0.0.1\n\npersistence true\npersistence_location /var/lib/mosquitto/\n"
    own = {"listener": "2000 127.0.0.1", "persistence_location": "/tmp/a b/"}
    assert list(derive(template, own)) == [
        "persistence true",
        "listener 2000 127.0.0.1",
        "persistence_location /tmp/a b/",
    ]


@pytest.mark.parametrize("length", [1, 60, 70, 80, 90, 200])
def test_the_socket_of_postgres_fits_however_long_the_directory(length: int) -> None:
    directory = Path("/") / ("d" * length)
    path = socket_directory(directory) / ".s.PGSQL.5432"
    assert len(str(path)) <= SOCKET_PATH_BYTES
    assert socket_directory(directory) != socket_directory(directory / "other")
