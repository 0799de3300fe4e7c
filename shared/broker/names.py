"""Names on the broker: of devices, topics and clients, and the keys that they reserve.

With a password file (BROKER_PASSWORDS), a device's key is its user name and its client id. A device named like the
ingestor's user could read the messages of all devices; one with the ingestor's client id could end its session. With
other brokers a device is named `device-<id>`, and only the key of the ingestor's probe is reserved.
"""

import re
import uuid

import msgspec

from shared.settings import Settings, TopicFilter

DOCTOR_TOPICS = "devicestat/doctor/#"
"""Topics that `devicestat doctor` publishes to in its tests of the broker."""
PROBE_KEY = "devicestat-probe"
"""Key in the topic of the empty messages with which the ingestor tests its subscription (ADR 35)."""
PROCESS_SUFFIX = ".process-"
"""Suffix of the client id of an additional ingestor process; its number follows."""
OWN_PREFIX = "devicestat-"
"""Prefix of Devicestat's own users and client ids: `devicestat-witness`, `devicestat-doctor-…`."""
_DEVICE = re.compile(r"device-([1-9][0-9]{0,18})", re.ASCII)


def new_client_id(purpose: str) -> str:
    """Return a random client id, which takes over no session."""
    return f"{OWN_PREFIX}{purpose}-{uuid.uuid4().hex[:12]}"


def device_name(device_id: int) -> str:
    """Return the name of the device's client and role, which is also its only permitted client id."""
    return f"device-{device_id}"


def device_id_of(name: str) -> int | None:
    """Return the id of the device that a client or role name belongs to; None if it is no device's name."""
    found = _DEVICE.fullmatch(name)
    return int(found[1]) if found else None


def probe_topic(form: TopicFilter) -> str:
    """Return the topic of the ingestor's probe, which matches its subscription."""
    return f"{form.prefix}{PROBE_KEY}{form.suffix}"


class KeyRules(msgspec.Struct, frozen=True):
    """Rules for device keys. `is_user_name`: whether a device's key is its user name on the broker.

    `user`, `client_id`: user and client id of the ingestor.
    """

    is_user_name: bool = False
    user: str | None = None
    client_id: str = ""

    def fault(self, key: str) -> str | None:
        """Return the reason why a device may not have the key; None if it may."""
        if key == PROBE_KEY:
            return "is reserved: the ingestor publishes under this key to test its subscription"
        return self._fault_of_user_name(key) if self.is_user_name else None

    def _fault_of_user_name(self, key: str) -> str | None:
        if ":" in key:
            return "has a colon, which a user name in the broker's password file cannot have"
        if key == self.user:
            return "is the user of DEVICESTAT_MQTT_URL"
        if key == self.client_id or key.startswith(f"{self.client_id}{PROCESS_SUFFIX}"):
            return "is a client id of the ingestor (DEVICESTAT_MQTT_CLIENT_ID)"
        if key.startswith(OWN_PREFIX):
            return f"begins with {OWN_PREFIX}, which is reserved for users and client ids of Devicestat"
        return None


def rules_of(settings: Settings) -> KeyRules:
    """Return the rules for the configured broker."""
    if settings.broker_passwords is None:
        return KeyRules()
    return KeyRules(True, settings.broker.username, settings.mqtt_client_id)
