"""Settings, in three files.

- `model.py`: the settings, their defaults and their bounds; `load` reads and checks them all.
- `sources.py`: the environment, files that it names, and a TOML file.
- `values.py`: text becomes addresses, topic filters, networks and keys.
"""

from shared.settings.model import CONFIG, PREFIX, SECRETS, Settings, load, overridden
from shared.settings.values import (
    MqttAddress,
    TlsFiles,
    TopicFilter,
    parse_mqtt_url,
    parse_ports,
    parse_topic_filter,
    webhook_key,
)

__all__ = [
    "CONFIG",
    "PREFIX",
    "SECRETS",
    "MqttAddress",
    "Settings",
    "TlsFiles",
    "TopicFilter",
    "load",
    "overridden",
    "parse_mqtt_url",
    "parse_ports",
    "parse_topic_filter",
    "webhook_key",
]
