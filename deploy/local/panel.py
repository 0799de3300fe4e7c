"""Panel that `devicestat up` prints when everything is ready: addresses, and three commands to paste."""

import shlex
from collections.abc import Mapping

from deploy.devices.api_client import ApiDevice
from shared.settings import MqttAddress, TopicFilter

_KEY = '-H "Authorization: Bearer $DEVICESTAT_API_KEY"'


def panel_lines(
    api: str,
    broker: MqttAddress,
    topic: TopicFilter,
    device: ApiDevice | None,
    *,
    demo: bool,
    exports: Mapping[str, str],
    closed: bool = False,
) -> list[str]:
    """Return the lines. `device`: the first in the database.

    `closed`: the API requires a key. `exports`: settings with which other commands find these servers.
    """
    curl = f"curl {_KEY}" if closed else "curl"
    others = " ".join(f"{name}={shlex.quote(value)}" for name, value in exports.items())
    scheme = "mqtts" if broker.tls else "mqtt"
    address = f"mqtt+unix://{broker.unix_socket}" if broker.unix_socket else f"{scheme}://{broker}"
    return [
        "",
        f"  Dashboard                   {api}/",
        f"  API and its documentation   {api}/docs",
        f"  Metrics                     {api}/metrics",
        f"  MQTT                        {address}, topic {topic.prefix}<key>{topic.suffix}",
        *([f"  For other commands          export {others}"] if others else []),
        *(["  A key, if you have none     export DEVICESTAT_API_KEY=$(devicestat keys create --role admin)"] * closed),
        "",
        *(_look(curl, api, device) if demo and device else _publish(curl, api, broker, topic, device)),
        "",
        "  Ctrl-C stops everything. The data are kept.",
    ]


def _look(curl: str, api: str, device: ApiDevice) -> list[str]:
    return [
        f"{curl} '{api}/devices'",
        f"{curl} '{api}/stats/{device.id}?limit=5'",
        f"{curl} '{api}/stats/analysis/{device.id}'",
    ]


def _publish(curl: str, api: str, broker: MqttAddress, topic: TopicFilter, device: ApiDevice | None) -> list[str]:
    register = f"""{curl} -H 'Content-Type: application/json' -d '{{"name": "Boiler"}}' '{api}/devices'"""
    devices = register if device is None else f"{curl} '{api}/devices'"
    device = device or ApiDevice(id=1, key="1")
    to = shlex.quote(f"{topic.prefix}{device.key}{topic.suffix}")
    where = f"--unix {shlex.quote(broker.unix_socket)}" if broker.unix_socket else f"-h {broker.host} -p {broker.port}"
    return [
        devices,
        f"""mosquitto_pub {where} -q 1 -t {to} -m '{{"x": 1.5, "y": -2, "z": 3}}'""",
        f"sleep 1; {curl} '{api}/stats/analysis/{device.id}'",  # until it is stored
    ]
