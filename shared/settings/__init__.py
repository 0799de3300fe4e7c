"""Settings.

- `model.py`: the settings with their types, bounds and defaults.
- `loading.py`: `load` reads and checks them all.
- `sources.py`: the environment, files that it names, and a TOML file.
- `values.py`: parsed values, such as addresses, topic filters and durations.
"""

from shared.settings.loading import load
from shared.settings.model import SECRETS, Settings
from shared.settings.sources import CONFIG, PREFIX, overridden
from shared.settings.values import (
    MqttAddress,
    TlsFiles,
    TopicFilter,
    WebhookSecret,
    parse_mqtt_url,
    parse_topic_filter,
)

__all__ = [
    "CONFIG",
    "PREFIX",
    "SECRETS",
    "MqttAddress",
    "Settings",
    "TlsFiles",
    "TopicFilter",
    "WebhookSecret",
    "load",
    "overridden",
    "parse_mqtt_url",
    "parse_topic_filter",
]
