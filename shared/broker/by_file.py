"""Reconciliation by the broker's password file (BROKER_PASSWORDS), which Mosquitto rereads on SIGHUP.

systemd or the container's script watches the file and sends the signal. A login of the witness, a user whose password
changes with each change of the file, shows that the broker has read it.
"""

import asyncio
import fcntl
import os
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import ParamSpec, TypeVar

import aiomqtt
import msgspec
import structlog
from aiomqtt.exceptions import MqttConnectError

from shared.broker.client import mqtt_client
from shared.broker.device_credentials import DeviceCredential, all_credentials, credentials_of
from shared.broker.names import KeyRules
from shared.broker.password_file import (
    WITNESS,
    FileChange,
    FileComparison,
    PasswordFile,
    change,
    compare,
    parse,
    render,
    witness_password,
)
from shared.broker.reconciliation import Difference, Reconcile, Reconciled
from shared.errors import BrokerError, BrokerUnreachable, SettingsError
from shared.postgres.connections import Connection
from shared.settings import MqttAddress

RELOAD_S = 20.0
"""Time that the broker may take to read a changed file before NotReloaded is raised."""
_POLL_S = 0.1
_log = structlog.get_logger()
P = ParamSpec("P")
T = TypeVar("T")


class NotReloaded(BrokerError):
    """The broker has not reread its password file."""


class ByFile:
    """Writes the password file, and waits until the broker has read it."""

    batch = 10_000
    """Devices for each change of the file."""

    def __init__(
        self, path: Path, address: MqttAddress, secret: str, rules: KeyRules, *, reload_s: float = RELOAD_S
    ) -> None:
        self.reload_s = reload_s
        self._path = path
        self._address = address
        self._secret = secret
        self._rules = rules
        self._is_unread = False
        """Whether the last change is unread: the signal for it may be lost, so the file is written again."""

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Reconcile]:
        """Return `reconcile`. The caller holds the lock."""
        yield self.reconcile

    async def reconcile(self, connection: Connection, device_ids: Sequence[int]) -> Reconciled:
        """Update the lines of the devices, and wait until the broker has read them. Raises BrokerError."""
        devices = await credentials_of(connection, device_ids, self._secret)
        done = await _in_thread(self._change, device_ids, devices)
        await self._witnessed(done.file)
        for unfit in done.unfit:
            _log.warning(
                "a device cannot connect to the broker: its key cannot be a user name there",
                device=unfit.device_id,
                key=unfit.key,
                reason=f"the key {unfit.reason}",
            )
        found = {device_id: [Difference("a different line in the password file")] for device_id in done.changed}
        return Reconciled(found | {device_id: [Difference("no token", lost=True)] for device_id in done.lost}, {})

    async def compare(self, connection: Connection) -> FileComparison:
        """Compare the file with the devices; write nothing. Raises BrokerError."""
        file = await asyncio.to_thread(self.read)
        devices = {device.id: device async for device in all_credentials(connection, self._secret)}
        return await asyncio.to_thread(compare, file, devices, self._rules)

    def read(self) -> PasswordFile:
        """Read the file. Raises BrokerUnreachable."""
        return parse(self._text())

    def _text(self) -> str:
        try:
            return self._path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise self._unusable("read", error) from error

    def _change(self, device_ids: Sequence[int], devices: dict[int, DeviceCredential]) -> FileChange:
        try:
            with _locked(self._path.parent):
                done = change(self.read(), device_ids, devices, self._rules)
                if done.changed or self._is_unread:
                    _replace(self._path, render(done.file, self._secret).encode())
        except OSError as error:
            raise self._unusable("written", error) from error
        return done

    def _unusable(self, what: str, error: OSError | UnicodeDecodeError) -> BrokerUnreachable:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        return BrokerUnreachable(
            f"DEVICESTAT_BROKER_PASSWORDS is {str(self._path)!r}, which cannot be {what} ({why}): set it to the "
            "password_file of Mosquitto on this host, and create that file, empty if need be, before the first device"
        )

    async def _witnessed(self, file: PasswordFile) -> None:
        """Wait until the broker accepts the witness of this file. Raises BrokerError."""
        if not file.devices and not await asyncio.to_thread(self._has_witness):
            return  # the file was never written
        password = await asyncio.to_thread(witness_password, file, self._secret)
        address = msgspec.structs.replace(self._address, username=WITNESS, password=password)
        with suppress(TimeoutError):
            async with asyncio.timeout(self.reload_s):
                while True:
                    if await _lets_in(address):
                        self._is_unread = False
                        return
                    await asyncio.sleep(_POLL_S)
        self._is_unread = True
        raise NotReloaded(
            f"the broker at {self._address} has not read {self._path} within {self.reload_s:g} s of its change: send "
            "Mosquitto SIGHUP at each change of the file, as described in docs/many-devices.md"
        )

    def _has_witness(self) -> bool:
        return f"\n{WITNESS}:" in "\n" + self._text()


async def _in_thread(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run the function in a thread. Return when it has ended, even if cancelled.

    A thread cannot be cancelled. The caller holds the lock until it ends, so no other process changes the file.
    """
    running = asyncio.ensure_future(asyncio.to_thread(function, *args, **kwargs))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait([running])
        raise


async def _lets_in(address: MqttAddress) -> bool:
    try:
        async with mqtt_client(address, "witness"):
            return True
    except MqttConnectError:
        return False
    except SettingsError as error:  # a certificate may be in the middle of its renewal
        raise BrokerUnreachable(str(error)) from error
    except aiomqtt.MqttError as error:
        raise BrokerUnreachable(f"no connection to the MQTT broker at {address}: {error}") from error


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """Keep other processes of this host from changing a file of the directory.

    The lock in the database is lost with its connection, and another process may then have it.
    """
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _replace(path: Path, content: bytes) -> None:
    """Replace the file atomically; keep its mode and group."""
    former = path.stat()
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            with suppress(PermissionError):
                os.fchown(descriptor, former.st_uid if os.geteuid() == 0 else -1, former.st_gid)
            os.fchmod(descriptor, former.st_mode & 0o777)
            stream.write(content)
            stream.flush()
            os.fsync(descriptor)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
