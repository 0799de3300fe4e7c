"""Keys at the configured broker: those that no device may have (`shared.broker.names`), and the topic of a key."""

import asyncio
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Annotated

import msgspec

from shared.broker.names import KeyRules, rules_of
from shared.broker.password_file import TAKEN, users_among
from shared.settings import MqttAddress, Settings
from shared.settings.values import TopicFilter


class MqttPublishing(msgspec.Struct, frozen=True, kw_only=True):
    """The place at which a device publishes by MQTT. `port` and `tls`: those by which the ingestor connects."""

    topic: Annotated[
        str, msgspec.Meta(description="The topic of its readings.", examples=["devices/boiler-north/stats"])
    ]
    port: Annotated[
        int | None, msgspec.Meta(description="The broker's port in MQTT_URL. Null if the API has no such port.")
    ]
    tls: Annotated[
        bool | None, msgspec.Meta(description="Whether MQTT_URL uses TLS. Null if the API has no such port.")
    ]


class Keys(msgspec.Struct, frozen=True):
    """Rules for the keys of devices. `topics`: their topics. `broker`: its address, if the API knows it.

    `passwords`: the broker's password file, if it has one.
    """

    rules: KeyRules
    topics: TopicFilter
    broker: MqttAddress | None = None
    passwords: Path | None = None

    def publishing(self, key: str) -> MqttPublishing:
        """Return the place at which the device with the key publishes. A socket has no port."""
        broker = self.broker if self.broker and self.broker.unix_socket is None else None
        return MqttPublishing(
            topic=self.topics.topic(key), port=broker.port if broker else None, tls=broker.tls if broker else None
        )

    async def faults(self, keys: Collection[str]) -> Mapping[str, str]:
        """Return the fault of each key that no device may have."""
        found = {key: fault for key in keys if (fault := self.rules.fault(key))}
        if self.passwords is None or not keys:
            return found
        return dict.fromkeys(await asyncio.to_thread(_users_among, self.passwords, keys), TAKEN) | found


def _users_among(path: Path, keys: Collection[str]) -> set[str]:
    """Return no users if the file cannot be read: the keys are checked again when the file is written."""
    try:
        return users_among(path.read_text(encoding="utf-8"), keys)
    except (OSError, UnicodeDecodeError):
        return set()


def keys_of(settings: Settings) -> Keys:
    """Return the rules for keys at the configured broker."""
    passwords = settings.broker_passwords
    path = None if passwords is None else Path(passwords)
    return Keys(rules_of(settings), settings.mqtt_topic, settings.mqtt_url, path)
