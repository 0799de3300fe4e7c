"""`devicestat devices import`: registers the devices of a CSV file with the API, and writes their tokens.

1. `read_file` checks all lines before anything is registered.
2. `import_devices` sends arrays of devices to POST /devices, which skips existing keys.
3. The tokens of each array are written, and synced to disk, before the next array is sent.
"""

import csv
import io
import os
import stat
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol, TextIO

import click
import msgspec

from deploy.devices.api_client import ApiClient, NotCarriedOut
from query_api.devices.record import KEY_RULE, NAME_RULE, NewName
from query_api.devices.registration import MAX_DEVICES
from query_api.errors import displayed
from shared.broker.names import KeyRules
from shared.errors import LocalError
from shared.readings.model import is_key
from shared.status.words import counted, printable

IMPORT_TIMEOUT_S = 60.0
MAX_FAULTS = 20
"""Most faults of a file that are listed."""
_HEADER = ["key", "name"]
_ADVICE = "expected the column names key,name before the devices, separated by a comma"
_COLUMNS = ("key", "id", "mqtt_username", "token")
_QUOTING = (
    'Quote a value that has a comma or a quotation mark, as in "press 1, ""east""". This line, or '
    "one before it, has an unmatched quotation mark"
)
_REPORT_EVERY = 10_000


class DeviceLine(msgspec.Struct, frozen=True):
    """A device of the file. `number`: its line, from 1."""

    number: int
    key: str
    name: str


def read_file(path: Path) -> list[DeviceLine]:
    """Return the devices of the file, or of standard input for "-". Raises LocalError, which names each wrong line."""
    if str(path) == "-":
        # Opened again, as strict UTF-8: in the locale C, sys.stdin replaces invalid bytes by surrogates.
        with open(sys.stdin.fileno(), encoding="utf-8-sig", newline="", closefd=False) as stream:
            return read_lines(stream, "standard input")
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            return read_lines(stream, str(path))
    except OSError as error:
        raise LocalError(f"{path} cannot be read: {error.strerror}") from error


def read_lines(stream: TextIO, where: str) -> list[DeviceLine]:
    """Return the devices of a CSV file. Raises LocalError, which names each wrong line."""
    rows = csv.reader(stream, strict=True)
    try:
        return _checked(rows, where)
    except UnicodeDecodeError as error:
        raise LocalError(f"{where} is not UTF-8: save it as CSV in UTF-8") from error
    except csv.Error as error:
        raise LocalError(f"{where}, line {rows.line_num}: {error}. {_QUOTING}") from error


class _Rows(Protocol):
    """The type of csv.reader."""

    line_num: int

    def __iter__(self) -> Iterator[list[str]]: ...

    def __next__(self) -> list[str]: ...


def _checked(rows: _Rows, where: str) -> list[DeviceLine]:
    first = next(filter(None, rows), None)
    if first is None:
        raise LocalError(f"{where} is empty: {_ADVICE}")
    header = [cell.strip().lower().removeprefix("\ufeff") for cell in first]
    if header != _HEADER:
        raise LocalError(f"{where}, line {rows.line_num}: {displayed(','.join(header))}: {_ADVICE}")
    lines: list[DeviceLine] = []
    faults: list[str] = []
    seen: dict[str, int] = {}
    for row in filter(None, rows):
        fault = _fault(row, seen)
        if fault is None:
            line = DeviceLine(rows.line_num, *row)
            seen[line.key] = line.number
            lines.append(line)
        else:
            faults.append(f"line {rows.line_num}: {fault}")
    if faults:
        raise LocalError("\n".join(_listed(where, faults)))
    return lines


def _listed(where: str, faults: Sequence[str]) -> Iterator[str]:
    yield f"{where} has {counted(len(faults), 'invalid line')}, and nothing was registered:"
    yield from map(printable, faults[:MAX_FAULTS])
    if len(faults) > MAX_FAULTS:
        yield f"and {len(faults) - MAX_FAULTS:,} more"


def _fault(row: list[str], seen: dict[str, int]) -> str | None:
    if len(row) != len(_HEADER):
        quoting = " (quote a name that has a comma)" if len(row) > len(_HEADER) else ""
        return f"it has {counted(len(row), 'value')}, expected a key and a name{quoting}"
    key, name = row
    if not is_key(key):
        return f"key {displayed(key)}: expected {KEY_RULE}"
    if reserved := KeyRules().fault(key):
        return f"key {displayed(key)} {reserved}"
    if key in seen:
        return f"key {displayed(key)} is also in line {seen[key]}"
    try:
        msgspec.convert({"name": name}, NewName)
    except msgspec.ValidationError:
        return f"name {displayed(name)}: expected {NAME_RULE}"
    return None


def import_devices(
    client: ApiClient, lines: Sequence[DeviceLine], tokens: Path | None, batch: int = MAX_DEVICES
) -> None:
    """Register the devices, and write their tokens to the file, or to standard output. Raises LocalError."""
    registered = 0
    with _output(tokens) as write:
        for start in range(0, len(lines), batch):
            sent = lines[start : start + batch]
            try:
                made = client.register_all([{"key": line.key, "name": line.name} for line in sent])
                write(_rows([device.key, device.id, device.mqtt_username, device.token] for device in made))
            except NotCarriedOut as error:
                raise LocalError(f"{error}{_so_far(registered, sent)}") from error
            except LocalError as error:
                raise LocalError(f"{error}\n{_remark(sent)}") from error
            registered += len(made)
            done = start + len(sent)
            if done % _REPORT_EVERY == 0 and done < len(lines):
                click.echo(f"{done:,} of {counted(len(lines), 'device')}", err=True)
    skipped = len(lines) - registered
    also = f"; {counted(skipped, 'device')} skipped, already registered" if skipped else ""
    click.echo(f"registered {counted(registered, 'device')}{also}", err=True)


def _so_far(registered: int, sent: Sequence[DeviceLine]) -> str:
    if not registered:
        return ""
    return f"\n{counted(registered, 'device')} registered; none from line {sent[0].number} on: run the command again"


def _remark(sent: Sequence[DeviceLine]) -> str:
    return (
        f"lines {sent[0].number} to {sent[-1].number} may be registered or not: run the command again. Those "
        "devices that it skips need new tokens: POST /devices/{device_id}/token"
    )


def _rows(rows: Iterable[Sequence[object]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


_Write = Callable[[str], None]


@contextmanager
def _output(path: Path | None) -> Iterator[_Write]:
    """Write the header; yield a function that writes tokens, and raises LocalError."""
    if path is None:
        _print(_rows([_COLUMNS]))
        yield _print
        return
    descriptor = _private(path)
    try:
        if os.fstat(descriptor).st_size == 0:
            _append(descriptor, path, _rows([_COLUMNS]))
        yield lambda text: _append(descriptor, path, text)
    finally:
        os.close(descriptor)


def _print(text: str) -> None:
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except OSError as error:
        raise LocalError(f"standard output cannot be written: {error.strerror}") from error


def _append(descriptor: int, path: Path, text: str) -> None:
    """Append the text, and sync it to disk. Raises LocalError, with the file as it was."""
    before = os.fstat(descriptor).st_size
    data = text.encode()
    done = 0
    try:
        while done < len(data):
            done += os.write(descriptor, data[done:])
        os.fsync(descriptor)
    except OSError as error:
        if os.fstat(descriptor).st_size == before + done:  # no other process has appended to it
            os.ftruncate(descriptor, before)
        raise LocalError(f"{path} cannot be written: {error.strerror}") from error


def _private(path: Path) -> int:
    """Open the file for appending. Raises LocalError if other users can read it."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise LocalError(f"{path} cannot be written: {error.strerror}") from error
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode) or found.st_mode & 0o077:
        os.close(descriptor)
        raise LocalError(
            f"{path} must be a file that only its owner can read: run `chmod 600` on it, or choose another"
        )
    return descriptor
