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
from collections.abc import Iterable, Mapping

import msgspec

from shared.broker.present import Device

ITERATIONS = 101
"""As in `first_file`: a token is 256 random bits, which no number of iterations adds to."""
WITNESS = "devicestat-witness"
"""A user of the file that may log in, and whose password changes with each change of the file."""
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
        return {line.partition(":")[0] for line in self.others}


class Change(msgspec.Struct, frozen=True):
    """What a file becomes. `changed`: devices whose lines differ. `lost`: their tokens cannot be made again.

    `unfit`: devices whose keys cannot be user names of the file, which have no line.
    """

    file: PasswordFile
    changed: tuple[int, ...] = ()
    lost: tuple[int, ...] = ()
    unfit: tuple[int, ...] = ()


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


def change(file: PasswordFile, numbers: Iterable[int], devices: Mapping[int, Device]) -> Change:
    """Bring the lines of these devices to where the devices are; `devices` has those that may connect."""
    lines, users = dict(file.devices), {*file.users, WITNESS}
    changed, lost, unfit = [], [], []
    for number in numbers:
        device, former = devices.get(number), lines.pop(number, None)
        line = None
        if device is None:
            pass
        elif not _fits(device, users):
            unfit.append(number)
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


def differing(file: PasswordFile, devices: Mapping[int, Device]) -> list[int]:
    """Return the devices whose lines differ from what `change` would make of them. `devices`: all that may connect."""
    users = {*file.users, WITNESS}
    return [
        number
        for number in sorted({*file.devices, *devices})
        if not _is_right(file.devices.get(number), devices.get(number), users)
    ]


def _is_right(line: str | None, device: Device | None, users: set[str]) -> bool:
    if device is None or not _fits(device, users):
        return line is None
    return line is not None and line.startswith(_beginning(device))


def _fits(device: Device, users: set[str]) -> bool:
    return ":" not in device.key and device.key not in users and device.id < 1 << 8 * _ID_BYTES


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


def _salt(device: Device) -> bytes:
    token = hashlib.sha256(b"devicestat token\0" + device.hash).digest()
    return _salt_of_device(device.id) + token[:_TOKEN_BYTES]


def _beginning(device: Device) -> str:
    return f"{device.key}:$7${ITERATIONS}${_base64(_salt(device))}$"


def _line(name: str, password: str, salt: bytes) -> str:
    hashed = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, ITERATIONS, _HASH_BYTES)
    return f"{name}:$7${ITERATIONS}${_base64(salt)}${_base64(hashed)}"


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
