"""Keys that no device may have, because the broker knows the name as something else: pure.

At a broker with a password file (BROKER_PASSWORDS) a device's key is its user name and its client id. A device with the
name of the ingestor's user could read the messages of all devices, and one with the ingestor's client id could end its
session. At other brokers devices are called `device-<number>`, and only the key of the ingestor's probe is reserved.
"""

import re

import msgspec

from shared.settings import Settings, TopicFilter

DOCTOR_TOPICS = "devicestat/doctor/#"
"""What `devicestat doctor` publishes to, to try the broker: no device's topic, unless somebody wants it to be."""
PROBE_KEY = "devicestat-probe"
"""In place of a device's key: what the ingestor publishes to, without a payload, to try its subscription (ADR 35)."""
PROCESS_SUFFIX = ".process-"
"""Follows the ingestor's client id, before a number, where there are several processes."""
OWN_PREFIX = "devicestat-"
"""What users and client ids of Devicestat begin with: `devicestat-witness`, `devicestat-doctor-…`."""
_DEVICE = re.compile(r"device-([1-9][0-9]{0,18})", re.ASCII)


def device_name(number: int) -> str:
    """What the device's client is called, its role, and the only client id that it may connect with."""
    return f"device-{number}"


def device_number(name: str) -> int | None:
    """The device of a client or a role; None where the name is not of the form that devices have."""
    found = _DEVICE.fullmatch(name)
    return int(found[1]) if found else None


def probe_topic(form: TopicFilter) -> str:
    """Return the topic that an ingestor publishes to in silence; it matches the ingestor's subscription."""
    return f"{form.prefix}{PROBE_KEY}{form.suffix}"


class KeyRules(msgspec.Struct, frozen=True):
    """Which keys devices may have. `is_user_name`: a device's key is its user name at the broker.

    `user`, `client_id`: those of the ingestor.
    """

    is_user_name: bool = False
    user: str | None = None
    client_id: str = ""

    def fault(self, key: str) -> str | None:
        """Return why no device may have the key; None where one may."""
        if key == PROBE_KEY:
            return "is reserved: the ingestor publishes under this key to try its subscription"
        return self._fault_of_user_name(key) if self.is_user_name else None

    def _fault_of_user_name(self, key: str) -> str | None:
        if ":" in key:
            return "has a colon, which a user name in the broker's password file cannot have"
        if key == self.user:
            return "is the user of DEVICESTAT_MQTT_URL"
        if key == self.client_id or key.startswith(f"{self.client_id}{PROCESS_SUFFIX}"):
            return "is a client id of the ingestor (DEVICESTAT_MQTT_CLIENT_ID)"
        if key.startswith(OWN_PREFIX):
            return f"begins with {OWN_PREFIX}, as users and client ids of Devicestat do"
        return None


def rules_of(settings: Settings) -> KeyRules:
    """Return the rules for the broker of the settings."""
    if settings.broker_passwords is None:
        return KeyRules()
    return KeyRules(True, settings.broker.username, settings.mqtt_client_id)
