"""Files of a host that runs Devicestat under systemd, with PostgreSQL and Mosquitto (docs/systemd.md).

    etc/devicestat/authority     the passwords and the certificate authority, from which the other files are derived
    etc/devicestat/secrets       credentials that the units pass to the services
    etc/devicestat/mosquitto     configuration and certificates of the broker
    etc/devicestat/caddy         configuration and certificates of the proxy
    etc/devicestat               devicestat.toml, operator.env, ca.pem
    etc/systemd/system           the units

PostgreSQL's superuser runs `secrets/owner/database.sql`, which creates the database and its owner.
"""

import grp
import os
from collections.abc import Iterator, Mapping, Sequence
from importlib import resources
from pathlib import Path

import msgspec

from deploy.containers.authority import keep_authority, keep_certificate, keep_passwords, write
from deploy.containers.certificate_names import alternatives
from deploy.local.mosquitto import template
from shared.errors import LocalError

HOME = "etc/devicestat"
UNITS = "etc/systemd/system"
_DATABASE = "postgresql://devicestat_{role}:{password}@127.0.0.1:5432/devicestat"
_BROKER = "mqtts://{user}:{password}@127.0.0.1:8884"
_SQL = """\
SET log_statement = 'none';
SET log_min_error_statement = 'panic';
CREATE ROLE devicestat_owner LOGIN CREATEROLE PASSWORD '{password}';
CREATE DATABASE devicestat OWNER devicestat_owner ENCODING 'UTF8' LOCALE 'C.UTF-8' TEMPLATE template0;
ALTER SYSTEM SET max_locks_per_transaction = 256;
"""
"""ENCODING is set because Debian creates its cluster in SQL_ASCII if no locale is set.

No user of the system has the owner's name: PostgreSQL would not ask that user for a password (peer)."""


class Host(msgspec.Struct, frozen=True, kw_only=True):
    """Properties of the host that the files depend on."""

    root: Path
    plugin: Path
    """Mosquitto's dynamic security plugin."""
    groups: Mapping[str, int]
    """Ids of the groups `mosquitto` and `caddy`."""


class Made(msgspec.Struct, frozen=True):
    """A file to write. `stays`: an existing file is kept, because the operator may have changed it."""

    path: str
    content: str
    mode: int = 0o600
    stays: bool = False
    group: int = -1


def look(groups_of: Sequence[str] = ("mosquitto", "caddy")) -> Host:
    """Return this host, with the groups of these packages. Raises LocalError with all that is missing."""
    groups, missing = {}, []
    for name in groups_of:
        try:
            groups[name] = grp.getgrnam(name).gr_gid
        except KeyError:
            missing.append(f"there is no group {name}: apt-get install {name}")
    plugin = next(Path("/usr/lib").glob("**/mosquitto_dynamic_security.so"), None)
    if plugin is None:
        missing.append(
            "Mosquitto's plugin mosquitto_dynamic_security.so is not below /usr/lib: apt-get install mosquitto"
        )
    if missing or plugin is None:
        raise LocalError("\n".join(missing))
    return Host(root=Path("/"), plugin=plugin, groups=groups)


def install(host: Host, names: str) -> list[Path]:
    """Write the files that are missing or differ, and return them.

    `names`: names of the API and the broker, separated by commas. Raises SettingsError if a name is invalid, before
    anything is created, and LocalError.
    """
    public = ",".join(alternatives(names))
    authority = host.root / HOME / "authority"
    _directory(authority, 0o700)
    _directory(host.root / HOME / "secrets", 0o700)
    for name, group in host.groups.items():
        _directory(host.root / HOME / name, 0o750, group)
    passwords, ca = keep_passwords(authority), keep_authority(authority)
    certificates = {
        "local": keep_certificate(authority, "local", "DNS:localhost,IP:127.0.0.1"),
        "public": keep_certificate(authority, "public", public),
    }
    made = (
        *_secrets(passwords, ca),
        *_settings(ca),
        *_broker(host, certificates),
        *_proxy(host, certificates),
        *_units(),
    )
    return [host.root / one.path for one in made if _put(host.root / one.path, one)]


def _directory(path: Path, mode: int, group: int = -1) -> None:
    path.mkdir(parents=True, exist_ok=True)
    os.chown(path, -1, group)
    path.chmod(mode)


def _put(file: Path, made: Made) -> bool:
    """Write the file if needed; return whether it was written."""
    if file.exists() and (made.stays or file.read_text() == made.content):
        return False
    write(file, made.content, made.mode, made.group)
    return True


def _secrets(passwords: Mapping[str, str], ca: str) -> Iterator[Made]:
    """Return the credentials of each service, by the paths in the units."""
    contents = {
        **{f"passwords/{service}": passwords[service] for service in ("ingestor", "api", "worker")},
        **{
            f"{role}/database_url": _DATABASE.format(role=role, password=passwords[role])
            for role in ("owner", "ingestor", "api", "worker")
        },
        "owner/database.sql": _SQL.format(password=passwords["owner"]),
        "mqtt_url": _BROKER.format(user="devicestat-ingestor", password=passwords["broker"]),
        "mqtt_admin_url": _BROKER.format(user="devicestat-admin", password=passwords["admin"]),
        **{name: passwords[name] for name in ("device_secret", "metrics_token", "webhook_secret")},
        "ca.pem": ca,
    }
    for path, content in contents.items():
        yield Made(f"{HOME}/secrets/{path}", content, stays=True)


def _settings(ca: str) -> Iterator[Made]:
    for name in ("devicestat.toml", "operator.env"):
        yield Made(f"{HOME}/{name}", _packaged(f"systemd/{name}"), 0o644, stays=True)
    yield Made(f"{HOME}/ca.pem", ca, 0o644)


def _broker(host: Host, certificates: Mapping[str, tuple[str, str]]) -> Iterator[Made]:
    """Return mosquitto.conf without its listener, and the containers' configuration with the paths of this host."""
    directory, group = f"{HOME}/mosquitto", host.groups["mosquitto"]
    paragraphs = template().split("\n\n")
    shut = "\n\n".join(one for one in paragraphs if "\nlistener " not in one)
    closed = _replaced(
        _packaged("containers/mosquitto.closed.conf"),
        {
            "# The broker of compose.yaml: mosquitto.conf with authentication.": "# From here on: authentication.",
            "include_dir /etc/mosquitto/open\n": "",
            "/usr/lib/mosquitto_dynamic_security.so": str(host.plugin),
            "listener 8884\n": "listener 8884 127.0.0.1\n",
            "/run/public/": f"/{directory}/public/",
            "/run/secrets/": f"/{directory}/local/",
        },
    )
    yield Made(f"{directory}/mosquitto.conf", f"{shut}\n{closed}", 0o640, group=group)
    for which, (certificate, key) in certificates.items():
        yield Made(f"{directory}/{which}/certificate.pem", certificate, 0o640, group=group)
        yield Made(f"{directory}/{which}/key.pem", key, 0o640, group=group)


def _proxy(host: Host, certificates: Mapping[str, tuple[str, str]]) -> Iterator[Made]:
    directory, group = f"{HOME}/caddy", host.groups["caddy"]
    adapted = _replaced(
        _packaged("containers/Caddyfile"), {"/run/secrets/": f"/{directory}/", "api:8000": "127.0.0.1:8000"}
    )
    yield Made(f"{directory}/Caddyfile", adapted, 0o640, group=group)
    certificate, key = certificates["public"]
    yield Made(f"{directory}/certificate.pem", certificate, 0o640, group=group)
    yield Made(f"{directory}/key.pem", key, 0o640, group=group)


def _units() -> Iterator[Made]:
    for unit in sorted(resources.files("deploy").joinpath("systemd").iterdir(), key=lambda file: file.name):
        if unit.name.endswith(".service"):
            yield Made(f"{UNITS}/{unit.name}", unit.read_text(encoding="utf-8"), 0o644)


def _packaged(name: str) -> str:
    return resources.files("deploy").joinpath(name).read_text(encoding="utf-8")


def _replaced(text: str, changes: Mapping[str, str]) -> str:
    for old, new in changes.items():
        assert old in text, old
        text = text.replace(old, new)
    return text
