"""A Mosquitto with a password file for devices, which gets SIGHUP when the file changes."""

import asyncio
import base64
import hashlib
import os
import secrets
import shutil
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec

from deploy.local.mosquitto import EmbeddedMosquitto
from shared.broker.password_file import ITERATIONS
from shared.settings import MqttAddress, Settings
from tests.closed_broker import SECRET
from tests.ports import free_port

INGESTOR = "ingestor:the-ingestor's"
RULES = """user ingestor
topic read devices/+/stats
topic read $SYS/broker/#
topic readwrite devicestat/doctor/#
topic write devices/devicestat-probe/stats

pattern write devices/%u/stats
"""
_LOOK_S = 0.02


class PasswordFileBroker(EmbeddedMosquitto):
    """Devices connect to `device_port`, where the user name is the client id, and the ingestor to `port`."""

    def __init__(self, directory: Path, rules: str = RULES) -> None:
        self.file = directory / "data" / "devices.passwd"
        self._rules = directory / "data" / "devices.acl"
        self._rules_text = rules
        self.device_port = free_port()
        options = {
            "allow_anonymous": "false", "password_file": str(self.file), "acl_file": str(self._rules),
            "log_type": "all",
        }  # fmt: skip
        super().__init__(directory, free_port(), options)

    def prepare(self) -> None:
        super().prepare()
        with self._configuration.open("a") as stream:
            stream.write(f"listener {self.device_port} {self.host}\nuse_username_as_clientid true\n")
        if self.file.exists():
            return
        self._rules.write_text(self._rules_text)
        self.file.write_text(_users())
        for file in (self._rules, self.file):
            file.chmod(0o600)
            if self.user is not None:
                shutil.chown(file, self.user)

    def settings(self, settings: Settings) -> Settings:
        """Return the settings for this broker."""
        return msgspec.structs.replace(
            settings,
            mqtt_url=f"mqtt://{INGESTOR}@{self.host}:{self.port}",
            broker_passwords=str(self.file),
            device_secret=SECRET,
        )

    def as_device(self, key: str, token: str) -> MqttAddress:
        """Return the address with user and password of a device."""
        return MqttAddress(host=self.host, port=self.device_port, username=key, password=token)

    @asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        """Send SIGHUP at each change of the file, until the end of the block."""
        watching = asyncio.create_task(self._watch(), name="watch the password file")
        try:
            yield
        finally:
            watching.cancel()
            await asyncio.wait([watching])

    async def _watch(self) -> None:
        seen = self._inode()
        while True:
            await asyncio.sleep(_LOOK_S)
            if (now := self._inode()) != seen:
                seen = now
                os.kill(self.pid, signal.SIGHUP)

    def _inode(self) -> int:
        return self.file.stat().st_ino


def _users() -> str:
    """Return the ingestor's line, as mosquitto_passwd writes it."""
    name, password = INGESTOR.split(":")
    salt = secrets.token_bytes(12)
    hashed = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, ITERATIONS, 64)
    return f"{name}:$7${ITERATIONS}${base64.b64encode(salt).decode()}${base64.b64encode(hashed).decode()}\n"
