"""Load the settings from the environment, from files and from a TOML file, and check them together before any I/O.

Each setting is `DEVICESTAT_<NAME>` in the environment or, as the content of a file, `DEVICESTAT_<NAME>_FILE`, and
`<name>` in the `[devicestat]` table of the TOML file. The environment takes precedence.
"""

import difflib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from shared.errors import SettingsError
from shared.settings.model import DESCRIBED, SECRETS, Settings, parse
from shared.settings.sources import CONFIG, FILE, PREFIX, Given, from_environment, from_toml, variable

_NEEDS = {
    "mqtt_tls_cert": ("mqtt_tls_key",),
    "mqtt_tls_key": ("mqtt_tls_cert",),
    "mqtt_admin_url": ("device_secret",),
    "broker_passwords": ("device_secret", "mqtt_url"),
}


def load(environ: Mapping[str, str], config: Path | None = None, *, require: Iterable[str] = ()) -> Settings:
    """Return the settings from the file (`config`, else `DEVICESTAT_CONFIG`) and the environment.

    `require`: names of settings that the command needs. Raises SettingsError with every fault: each with the name of
    its setting and the accepted form, and without a value that may contain a password.
    """
    if config is None and environ.get(CONFIG):
        config = Path(environ[CONFIG])
    given: dict[str, Given] = {}
    faults: list[str] = []
    if config is not None:
        try:
            given.update(from_toml(config))
        except SettingsError as error:
            faults.extend(error.faults)
    given.update(from_environment(environ, DESCRIBED))
    values: dict[str, Any] = {}
    for name, one in given.items():
        try:
            values[name] = _convert(name, one)
        except SettingsError as error:
            faults.extend(error.faults)
    faults.extend(_missing(given, require))
    faults.extend(_unencrypted(values))
    if faults:
        raise SettingsError(faults)
    return Settings(**values)


def _missing(given: Mapping[str, Given], require: Iterable[str]) -> Iterator[str]:
    for name in require:
        if name not in given:
            yield f"{variable(name)} is not set: expected {DESCRIBED[name].expected}"
    for name, other in ((name, other) for name, others in _NEEDS.items() for other in others):
        if name in given and other not in given:
            yield f"{variable(name)} needs {variable(other)}, which is not set: expected {DESCRIBED[other].expected}"
    if "mqtt_admin_url" in given and "broker_passwords" in given:
        yield f"{variable('mqtt_admin_url')} and {variable('broker_passwords')} are both set: only one of them may be"


def _unencrypted(values: Mapping[str, Any]) -> Iterator[str]:
    """Refuse TLS files if no connection uses TLS: their user expects an encrypted connection."""
    files = [name for name in ("mqtt_tls_ca", "mqtt_tls_cert", "mqtt_tls_key") if values.get(name) is not None]
    urls = [name for name in ("mqtt_url", "mqtt_admin_url") if values.get(name) is not None]
    if files and urls and not any(values[url].tls for url in urls):
        given = " and ".join(variable(url) for url in urls)
        yield f"{variable(files[0])} is set, and {given} without TLS: write mqtts:// instead of mqtt://"


def _convert(name: str, given: Given) -> Any:
    if given.fault:
        raise SettingsError([given.fault])
    if name not in DESCRIBED:
        raise SettingsError([f"{given.source} is not a setting of devicestat{_hint(name, given.source)}"])
    try:
        return parse(name, given.value)
    except (ValueError, msgspec.ValidationError) as error:
        raise SettingsError(
            [f"{given.source} is invalid{_shown(name, given, error)}: expected {DESCRIBED[name].expected}"]
        ) from None


def _shown(name: str, given: Given, error: Exception) -> str:
    if name in SECRETS:
        return f" ({error})"
    return f" ({given.value!r})" if given.may_be_shown else ""


def _hint(name: str, source: str) -> str:
    by_file = source.startswith(PREFIX) and source.endswith(FILE)
    close = difflib.get_close_matches(name.removesuffix(FILE.lower()) if by_file else name, DESCRIBED, n=1)
    if not close:
        return ""
    meant = f"{variable(close[0])}{FILE if by_file else ''}" if source.startswith(PREFIX) else close[0]
    return f": did you mean {meant}?"
