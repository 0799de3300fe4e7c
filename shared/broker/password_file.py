"""Mosquitto's password file, with a line for each device (ADR 37): pure.

    lathe-7:$7$101$<salt>$<hash>

The user name is the device's key. The hash is PBKDF2 with SHA-512, as mosquitto_passwd makes it. The salt of our lines
says which device and which token a line is of, so that the file itself tells what is to be changed in it. Other lines,
such as the ingestor's, stay as they are.
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
"""As in `first_file`: a token is 256 random bits, which no number of iterations adds to."""
WITNESS = "devicestat-witness"
"""A user of the file that may log in, and whose password changes with each change of the file."""
TAKEN = "is a user in the broker's password file who is not a device"
_ID_BYTES, _CHECK_BYTES, _TOKEN_BYTES = 5, 3, 4
"""Of a salt, whose 12 bytes Mosquitto 2.0 insists on: the device's number, what tells our lines from others, and what
tells one token from another."""
_HASH_BYTES = 64


class PasswordFile(msgspec.Struct, frozen=True):
    """What the file holds. `devices`: the lines of devices by their numbers. `others`: the lines of other users."""

    devices: dict[int, str]
    others: tuple[str, ...] = ()

    @property
    def users(self) -> set[str]:
        """The names of the other users."""
        return {_user_of(line) for line in self.others}


class Change(msgspec.Struct, frozen=True):
    """What a file becomes. `changed`: devices whose lines differ. `lost`: their tokens cannot be made again.

    `unfit`: devices whose keys cannot be user names of the file, which have no line.
    """

    file: PasswordFile
    changed: tuple[int, ...] = ()
    lost: tuple[int, ...] = ()
    unfit: tuple["Unfit", ...] = ()


class Unfit(msgspec.Struct, frozen=True):
    """A device that has no line in the file. `reason`: what its key is or has, such as "has a colon"."""

    number: int
    key: str
    reason: str

    def __str__(self) -> str:
        return f"the key {self.key!r} of device {self.number} {self.reason}"


class Comparison(msgspec.Struct, frozen=True):
    """A file held against the devices. `differing`: those whose lines are not as they should be."""

    differing: tuple[int, ...]
    unfit: tuple[Unfit, ...]


def parse(text: str) -> PasswordFile:
    """Return what the text of a password file holds."""
    devices: dict[int, str] = {}
    others = []
    for line in filter(None, text.split("\n")):
        number = _device_of(line)
        if number is not None:
            devices[number] = line
        elif not line.startswith(f"{WITNESS}:"):
            others.append(line)
    return PasswordFile(devices, tuple(others))


def render(file: PasswordFile, secret: str) -> str:
    """Return the text of the file, with the witness."""
    lines = [*file.others, *file.devices.values()]
    password = witness_password(file, secret)
    lines.append(_line(WITNESS, password, hashlib.sha256(password.encode()).digest()[:12]))
    return "".join(f"{line}\n" for line in lines)


def witness_password(file: PasswordFile, secret: str) -> str:
    """The password of the witness, which follows from all other lines and the secret."""
    digest = hmac.new(secret.encode(), b"devicestat witness\0", "sha256")
    for line in (*file.others, *file.devices.values()):
        digest.update(line.encode() + b"\n")
    return digest.hexdigest()


def change(
    file: PasswordFile, numbers: Iterable[int], devices: Mapping[int, DeviceCredential], rules: KeyRules
) -> Change:
    """Reconcile the lines of these devices to where the devices are; `devices` has those that may connect."""
    lines, users = dict(file.devices), file.users
    changed, lost, unfit = [], [], []
    for number in numbers:
        device, former = devices.get(number), lines.pop(number, None)
        line = None
        if device is None:
            pass
        elif reason := _fault(device, users, rules):
            unfit.append(Unfit(number, device.key, reason))
        elif former is not None and former.startswith(_beginning(device)):
            line = former
        elif device.token is None:
            lost.append(number)
        else:
            line = _line(device.key, device.token, _salt(device))
        if line is not None:
            lines[number] = line
        if line != former:
            changed.append(number)
    return Change(PasswordFile(lines, file.others), tuple(changed), tuple(lost), tuple(unfit))


def compare(file: PasswordFile, devices: Mapping[int, DeviceCredential], rules: KeyRules) -> Comparison:
    """Return which lines differ from what `change` would make of them. `devices`: all that may connect."""
    users = file.users
    faults = {number: fault for number, device in devices.items() if (fault := _fault(device, users, rules))}
    differing = [
        number
        for number in sorted({*file.devices, *devices})
        if not _is_right(file.devices.get(number), None if number in faults else devices.get(number))
    ]
    unfit = [Unfit(number, devices[number].key, faults[number]) for number in sorted(faults)]
    return Comparison(tuple(differing), tuple(unfit))


def users_among(text: str, names: Collection[str]) -> set[str]:
    """Return which of the names are users in the text of a password file and not devices."""
    return {name for line in text.split("\n") if (name := _user_of(line)) in names and _device_of(line) is None}


def _user_of(line: str) -> str:
    """The user of a line, as Mosquitto reads it."""
    return line.partition(":")[0].strip()


def _is_right(line: str | None, device: DeviceCredential | None) -> bool:
    if device is None:
        return line is None
    return line is not None and line.startswith(_beginning(device))


def _fault(device: DeviceCredential, users: Collection[str], rules: KeyRules) -> str | None:
    """Return why the device has no line; None where it has one."""
    if fault := rules.fault(device.key):
        return fault
    if device.key in users:
        return TAKEN
    return None if device.id < 1 << 8 * _ID_BYTES else "is of a device whose number is too large for the file"


def _device_of(line: str) -> int | None:
    fields = line.rpartition(":")[2].split("$")
    if len(fields) != 5:
        return None
    try:
        salt = base64.b64decode(fields[3], validate=True)
    except binascii.Error:
        return None
    number = int.from_bytes(salt[:_ID_BYTES])
    ours = len(salt) == _ID_BYTES + _CHECK_BYTES + _TOKEN_BYTES and salt.startswith(_salt_of_device(number))
    return number if ours else None


def _salt_of_device(number: int) -> bytes:
    given = number.to_bytes(_ID_BYTES)
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
