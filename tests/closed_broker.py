"""A Mosquitto with authentication by the dynamic security plugin, as in a deployment."""

import shutil
from collections.abc import Iterable
from itertools import chain
from pathlib import Path

import msgspec
import pytest

from deploy.broker.first_file import first_file
from deploy.local.mosquitto import EmbeddedMosquitto
from shared.access.credentials import new_token
from shared.broker.device_credentials import DeviceCredential
from shared.broker.outbox import Change, queue
from shared.postgres.connections import Connection
from shared.settings import MqttAddress, Settings
from tests.ports import free_port

SECRET = "the secret of the tests, which is long enough"
ADMIN, INGESTOR = "admin:the-administrator's", "ingestor:the-ingestor's"
_PLACES = ("/usr/lib", "/usr/lib64", "/usr/local/lib", "/opt/homebrew/lib")
_NAME = "mosquitto_dynamic_security.so"


def plugin() -> Path:
    """Return the path of the plugin; skip the test if it is not installed."""
    found = next(chain.from_iterable(Path(place).glob(f"**/{_NAME}") for place in _PLACES), None)
    if found is None:
        pytest.skip(f"needs {_NAME}, which is in the package mosquitto of Debian, Ubuntu, Fedora and Homebrew")
    return found


class ClosedBroker(EmbeddedMosquitto):
    """A broker with the administrator, the ingestor, and the devices that are registered on it."""

    def __init__(self, directory: Path, devices: Iterable[DeviceCredential] = ()) -> None:
        self.file = directory / "data" / "dynamic-security.json"
        options = {
            "allow_anonymous": "false", "plugin": str(plugin()), "plugin_opt_config_file": str(self.file),
            "log_type": "all",
        }  # fmt: skip
        super().__init__(directory, free_port(), options)
        self.makes_file = True
        self._first_devices = devices

    def prepare(self) -> None:
        super().prepare()
        if self.makes_file and not self.file.exists():
            self.restore(first_file(self.settings(Settings()), self._first_devices))

    def restore(self, content: bytes) -> None:
        """Write the file, as from a backup, while the broker is stopped."""
        self.file.write_bytes(content)
        if self.user is not None:
            shutil.chown(self.file, self.user)

    def settings(self, settings: Settings) -> Settings:
        """Return the settings for this broker."""
        return msgspec.structs.replace(
            settings,
            mqtt_url=self._url(INGESTOR),
            mqtt_admin_url=self._url(ADMIN),
            device_secret=SECRET,
        )

    def _url(self, user: str) -> str:
        return f"mqtt://{user}@{self.host}:{self.port}"

    def as_device(self, number: int, token: str) -> MqttAddress:
        """Return the address with user and password of a device."""
        return MqttAddress(host=self.host, port=self.port, username=f"device-{number}", password=token)


_ADD = "INSERT INTO devices (id, key, name) VALUES (%s, %s, 'press') ON CONFLICT DO NOTHING"
_GIVE = """
    INSERT INTO device_tokens (device_id, hash, nonce) VALUES (%s, %s, %s)
    ON CONFLICT (device_id) DO UPDATE SET hash = EXCLUDED.hash, nonce = EXCLUDED.nonce
"""


async def give_token(
    database: Connection, number: int, *, secret: str | None = SECRET, tell: bool = True,
    change: Change = Change.REVOCATION,
) -> str:  # fmt: skip
    """Register the device, or rotate its token, as the API does; return the token."""
    token = new_token(number, secret)
    async with database.transaction():
        await database.execute(_ADD, (number, str(number)))
        await database.execute(_GIVE, (number, token.hash, token.nonce))
        if tell:
            await queue(database, [number], change)
    return token.text


async def remove(database: Connection, number: int) -> None:
    """Delete the device, as the API does."""
    async with database.transaction():
        await database.execute("DELETE FROM devices WHERE id = %s", (number,))
        await queue(database, [number], Change.REVOCATION)
