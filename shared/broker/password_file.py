"""Mosquitto's password file, with a line for each device (ADR 37): pure.

    lathe-7:$7$101$<salt>$<hash>

The user name is the device's key. The hash is PBKDF2 with SHA-512, as mosquitto_passwd computes it. The salt of a
device's line identifies the device and its token, so the file alone shows which lines are out of date. Other lines,
such as the ingestor's, are kept.
"""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Collection, Iterable, Mapping

import msgspec

from shared.broker.device_credentials import DeviceCredential
from shared.broker.names import KeyRules

ITERATIONS = 101
"""As in `first_file`. A token has 256 random bits; more iterations would not make it harder to guess."""
WITNESS = "devicestat-witness"
"""A user whose password changes with each change of the file: its login shows which version the broker has read."""
TAKEN = "is the name of another user in the broker's password file"
_ID_BYTES, _CHECK_BYTES, _TOKEN_BYTES = 5, 3, 4
"""Parts of a salt, which has the 12 bytes that Mosquitto 2.0 requires: the device id, a check that the line is a
device's, and a fingerprint of the token."""
_HASH_BYTES = 64


class PasswordFile(msgspec.Struct, frozen=True):
    """A parsed password file. `devices`: the line of each device by id. `others`: the lines of other users."""

    devices: dict[int, str]
    others: tuple[str, ...] = ()

    @property
    def users(self) -> set[str]:
        """The names of the other users."""
        return {_user_of(line) for line in self.others}


class FileChange(msgspec.Struct, frozen=True):
    """A changed file. `changed`: ids of devices whose lines differ. `lost`: ids of devices with unrecoverable tokens.

    `unfit`: devices without a line, because their keys cannot be user names.
    """

    file: PasswordFile
    changed: tuple[int, ...] = ()
    lost: tuple[int, ...] = ()
    unfit: tuple["Unfit", ...] = ()


class Unfit(msgspec.Struct, frozen=True):
    """A device that has no line in the file. `reason`: a predicate of its key, such as "has a colon"."""

    device_id: int
    key: str
    reason: str

    def __str__(self) -> str:
        return f"the key {self.key!r} of device {self.device_id} {self.reason}"


class FileComparison(msgspec.Struct, frozen=True):
    """The difference between a file and the devices. `differing`: ids of devices with a wrong or missing line."""

    differing: tuple[int, ...]
    unfit: tuple[Unfit, ...]


def parse(text: str) -> PasswordFile:
    """Parse the text of a password file."""
    devices: dict[int, str] = {}
    others = []
    for line in filter(None, text.split("\n")):
        device_id = _device_of(line)
        if device_id is not None:
            devices[device_id] = line
        elif not line.startswith(f"{WITNESS}:"):
            others.append(line)
    return PasswordFile(devices, tuple(others))


def render(file: PasswordFile, secret: str) -> str:
    """Return the text of the file, with the line of the witness."""
    lines = [*file.others, *file.devices.values()]
    password = witness_password(file, secret)
    lines.append(_line(WITNESS, password, hashlib.sha256(password.encode()).digest()[:12]))
    return "".join(f"{line}\n" for line in lines)


def witness_password(file: PasswordFile, secret: str) -> str:
    """Return the witness's password, which is derived from all other lines and the secret."""
    digest = hmac.new(secret.encode(), b"devicestat witness\0", "sha256")
    for line in (*file.others, *file.devices.values()):
        digest.update(line.encode() + b"\n")
    return digest.hexdigest()


def change(
    file: PasswordFile, device_ids: Iterable[int], devices: Mapping[int, DeviceCredential], rules: KeyRules
) -> FileChange:
    """Return the file with up-to-date lines of the devices in `device_ids`.

    `devices`: credentials of the devices that may connect; the lines of others are removed.
    """
    lines, users = dict(file.devices), file.users
    changed, lost, unfit = [], [], []
    for device_id in device_ids:
        device, former = devices.get(device_id), lines.pop(device_id, None)
        line = None
        if device is None:
            pass
        elif reason := _fault(device, users, rules):
            unfit.append(Unfit(device_id, device.key, reason))
        elif former is not None and former.startswith(_beginning(device)):
            line = former
        elif device.token is None:
            lost.append(device_id)
        else:
            line = _line(device.key, device.token, _salt(device))
        if line is not None:
            lines[device_id] = line
        if line != former:
            changed.append(device_id)
    return FileChange(PasswordFile(lines, file.others), tuple(changed), tuple(lost), tuple(unfit))


def compare(file: PasswordFile, devices: Mapping[int, DeviceCredential], rules: KeyRules) -> FileComparison:
    """Return the lines that `change` would change. `devices`: all devices that may connect."""
    users = file.users
    faults = {device_id: fault for device_id, device in devices.items() if (fault := _fault(device, users, rules))}
    differing = [
        device_id
        for device_id in sorted({*file.devices, *devices})
        if not _is_right(file.devices.get(device_id), None if device_id in faults else devices.get(device_id))
    ]
    unfit = [Unfit(device_id, devices[device_id].key, faults[device_id]) for device_id in sorted(faults)]
    return FileComparison(tuple(differing), tuple(unfit))


def users_among(text: str, names: Collection[str]) -> set[str]:
    """Return the names that are users in the text of a password file and are not devices."""
    return {name for line in text.split("\n") if (name := _user_of(line)) in names and _device_of(line) is None}


def _user_of(line: str) -> str:
    """Return the user of a line, as Mosquitto reads it."""
    return line.partition(":")[0].strip()


def _is_right(line: str | None, device: DeviceCredential | None) -> bool:
    if device is None:
        return line is None
    return line is not None and line.startswith(_beginning(device))


def _fault(device: DeviceCredential, users: Collection[str], rules: KeyRules) -> str | None:
    """Return the reason why the device has no line; None if it has one."""
    if fault := rules.fault(device.key):
        return fault
    if device.key in users:
        return TAKEN
    return None if device.id < 1 << 8 * _ID_BYTES else "belongs to a device whose id is too large for the file"


def _device_of(line: str) -> int | None:
    fields = line.rpartition(":")[2].split("$")
    if len(fields) != 5:
        return None
    try:
        salt = base64.b64decode(fields[3], validate=True)
    except binascii.Error:
        return None
    device_id = int.from_bytes(salt[:_ID_BYTES])
    ours = len(salt) == _ID_BYTES + _CHECK_BYTES + _TOKEN_BYTES and salt.startswith(_salt_of_device(device_id))
    return device_id if ours else None


def _salt_of_device(device_id: int) -> bytes:
    given = device_id.to_bytes(_ID_BYTES)
    return given + hashlib.sha256(b"devicestat device\0" + given).digest()[:_CHECK_BYTES]


def _salt(device: DeviceCredential) -> bytes:
    token = hashlib.sha256(b"devicestat token\0" + device.hash).digest()
    return _salt_of_device(device.id) + token[:_TOKEN_BYTES]


def _beginning(device: DeviceCredential) -> str:
    return f"{device.key}:$7${ITERATIONS}${_base64(_salt(device))}$"


def _line(name: str, password: str, salt: bytes) -> str:
    hashed = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, ITERATIONS, _HASH_BYTES)
    return f"{name}:$7${ITERATIONS}${_base64(salt)}${_base64(hashed)}"


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
