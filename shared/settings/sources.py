"""Sources of the settings: the environment, files that it names, and a TOML file.

With `DEVICESTAT_<NAME>_FILE=/path`, the content of the file is the value, so a secret need not be in the environment.
"""

import tomllib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import msgspec

from shared.errors import SettingsError

PREFIX = "DEVICESTAT_"
CONFIG = "DEVICESTAT_CONFIG"
TEST_PREFIX = "DEVICESTAT_TEST_"  # read only by the test suite
FILE = "_FILE"
MAX_FILE_BYTES = 64 * 1024


class Given(msgspec.Struct, frozen=True, kw_only=True):
    """A given setting: its value and its source, for error messages; or the fault of its source."""

    source: str
    value: Any = None
    may_be_shown: bool = True
    fault: str | None = None

    def __repr__(self) -> str:
        return f"Given({self.source})"


def variable(name: str) -> str:
    """Return the environment variable of the setting."""
    return f"{PREFIX}{name.upper()}"


def overridden(environ: Mapping[str, str], **settings: str) -> dict[str, str]:
    """Return the environment with these settings replaced, including their `_FILE` variables."""
    replaced = {variable(name): value for name, value in settings.items()}
    by_file = {f"{name}{FILE}" for name in replaced}
    return {name: value for name, value in environ.items() if name not in by_file} | replaced


def from_environment(environ: Mapping[str, str], names: Collection[str]) -> dict[str, Given]:
    """Return the given settings by name; `names`: the known settings."""
    given: dict[str, Given] = {}
    for source, value in environ.items():
        if not source.startswith(PREFIX) or source == CONFIG or source.startswith(TEST_PREFIX):
            continue
        name = source.removeprefix(PREFIX).lower()
        of_file = name.removesuffix(FILE.lower())
        if name not in names and of_file in names:
            name, one = of_file, _from_file(source, value)
        else:
            one = Given(source=source, value=value)
        given[name] = one if name not in given else _given_twice(name)
    return given


def _given_twice(name: str) -> Given:
    plain = variable(name)
    return Given(source=plain, fault=f"{plain} and {plain}{FILE} are both set: remove one of them")


def _from_file(source: str, path: str) -> Given:
    if not path:
        return Given(source=source, fault=f"{source} is empty: expected the path of a file")
    try:
        value = _content(Path(path))
    except OSError as error:
        return Given(source=source, fault=f"{source}: the file {path} cannot be read: {error.strerror}")
    except ValueError as error:
        return Given(source=source, fault=f"{source}: the file {path} {error}")
    return Given(source=f"{source} (the file {path})", value=value, may_be_shown=False)


def _content(path: Path) -> str:
    """Return the content without the final newline. Raises OSError, and ValueError with the fault."""
    with path.open("rb") as file:
        content = file.read(MAX_FILE_BYTES + 1)
    if len(content) > MAX_FILE_BYTES:
        raise ValueError(f"is larger than {MAX_FILE_BYTES} bytes")
    try:
        value = content.decode().removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError:
        raise ValueError("is not UTF-8") from None
    if not value:
        raise ValueError("is empty")
    return value


def from_toml(path: Path) -> dict[str, Given]:
    """Return the settings by name, from the table [devicestat] of the file. Raises SettingsError."""
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError([f"the configuration file {path} cannot be read: {error.strerror}"]) from error
    except ValueError as error:  # of tomllib, of UTF-8, or of a number with thousands of digits
        raise SettingsError([f"the configuration file {path} is not TOML: {error}"]) from None
    table = document.pop("devicestat", {})
    if document or not isinstance(table, dict):
        raise SettingsError([f"the configuration file {path} takes only the table [devicestat]"])
    return {name: Given(source=f"{name} in {path}", value=value) for name, value in table.items()}
