"""Initial dynamic security file for a new broker. The plugin reads it when it starts, and rewrites it later.

https://mosquitto.org/documentation/dynamic-security/
"""

import base64
import hashlib
import secrets
from collections.abc import Iterable
from typing import Any

import msgspec

from shared.broker.device_credentials import DeviceCredential
from shared.broker.dynamic_security.permissions import (
    ADMIN_ROLE,
    DEFAULT_ACCESS,
    INGESTOR_ROLE,
    admin_role,
    device_client,
    device_role,
    ingestor_role,
)
from shared.broker.dynamic_security.records import DynsecClient, RoleOfClient
from shared.broker.dynamic_security.sync import ingestor_user
from shared.settings import Settings

ITERATIONS = 101
"""The plugin's own number. More iterations add no security to 256 random bits, and would block the broker: it hashes
passwords of all clients in its only thread."""
_SALT_BYTES = 12
_HASH_BYTES = 64


def first_file(settings: Settings, devices: Iterable[DeviceCredential]) -> bytes:
    """Return a file with the administrator, the ingestor, and the devices whose tokens can be derived again.

    All other access is denied. Raises SettingsError.
    """
    form = settings.mqtt_topic
    known = [device for device in devices if device.token is not None]
    roles = [admin_role(), ingestor_role(form), *(device_role(device.id, device.key, form) for device in known)]
    document = {
        "defaultACLAccess": {access.acltype: access.allow for access in DEFAULT_ACCESS},
        "clients": [*_users(settings), *_devices(known)],
        "groups": [],
        "roles": msgspec.to_builtins(roles),
    }
    return msgspec.json.format(msgspec.json.encode(document), indent=1)


def _users(settings: Settings) -> Iterable[dict[str, Any]]:
    admin, (name, password) = settings.broker_admin, ingestor_user(settings)
    assert admin.username is not None, "settings have one"
    yield _client(_in_role(admin.username, ADMIN_ROLE), admin.password or "")
    yield _client(_in_role(name, INGESTOR_ROLE), password)


def _in_role(name: str, role: str) -> DynsecClient:
    return DynsecClient(username=name, roles=(RoleOfClient(role),))


def _devices(devices: Iterable[DeviceCredential]) -> Iterable[dict[str, Any]]:
    for device in devices:
        yield _client(device_client(device.id, device.fingerprint), device.token or "")


def _client(client: DynsecClient, password: str) -> dict[str, Any]:
    salt = secrets.token_bytes(_SALT_BYTES)
    hashed = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, ITERATIONS, _HASH_BYTES)
    given = {name: value for name, value in msgspec.to_builtins(client).items() if value}
    return given | {"password": _base64(hashed), "salt": _base64(salt), "iterations": ITERATIONS}


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
