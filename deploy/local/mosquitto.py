"""Mosquitto from the system's packages, as a child process, on a loopback port.

Its configuration is the project's `mosquitto.conf`, as in a deployment, with its own listener and paths.
"""

import os
import pwd
import shutil
import socket
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from importlib import resources
from pathlib import Path

from deploy.local.children import EmbeddedServer, Program, make_directory, server_user
from deploy.local.mosquitto_log import explain
from shared.broker.data_directory import SAVED
from shared.errors import LocalError

HOST = "127.0.0.1"
SYSTEM_USERS = ("mosquitto", "nobody")
"""Users that root runs it as: the first that exists."""
_OUTSIDE_PATH = ("/usr/sbin", "/usr/local/sbin", "/opt/homebrew/sbin")
_PROBE_TIMEOUT_S = 1.0


class EmbeddedMosquitto(EmbeddedServer):
    """An embedded Mosquitto. `options` replace the lines of `mosquitto.conf` with the same names."""

    def __init__(self, directory: Path, port: int, options: Mapping[str, str] | None = None) -> None:
        super().__init__(directory)
        self.host = HOST
        self.port = port
        self.user = server_user(self.data, _first_user(SYSTEM_USERS))
        self._options = dict(options or {})
        self._executable = executable()

    @property
    def url(self) -> str:
        """The address in the form of DEVICESTAT_MQTT_URL."""
        return f"mqtt://{self.host}:{self.port}"

    @property
    def program(self) -> Program:
        return Program(
            name="mosquitto",
            argv=(self._executable, "-c", str(self._configuration)),
            ready=self.ready,
            user=self.user,
            directory=self.directory,
            explain=partial(explain, data=self.data),
        )

    def ready(self) -> bool:
        """Whether it accepts connections."""
        try:
            socket.create_connection((self.host, self.port), _PROBE_TIMEOUT_S).close()
        except OSError:
            return False
        return True

    def prepare(self) -> None:
        """Write the configuration."""
        make_directory(self.directory)
        self.opened += make_directory(self.data, self.user)
        self._let_read(self.data / SAVED)
        own = {
            "listener": f"{self.port} {self.host}",
            "persistence_location": f"{self.data}/",
        }
        lines = derive(template(), {**own, **self._options})
        self._configuration.write_text("".join(f"{line}\n" for line in lines))
        self._configuration.chmod(0o644)

    def _let_read(self, saved: Path) -> None:
        """Make the last save readable for the broker, which otherwise starts empty without an error."""
        if not saved.exists():
            return
        if self.user is not None:
            shutil.chown(saved, self.user)
        elif not os.access(saved, os.R_OK):
            raise LocalError(
                f"{saved}, with Mosquitto's queued messages, cannot be read: change its owner to the user of this "
                "command (chown), or move it away, which loses the messages"
            )

    @property
    def _configuration(self) -> Path:
        return self.directory / "mosquitto.conf"


def derive(template: str, options: Mapping[str, str]) -> Iterator[str]:
    """Return the lines of a configuration: the options, and the template's settings that they do not replace."""
    for line in template.splitlines():
        name = line.partition(" ")[0]
        if name and not name.startswith("#") and name not in options:
            yield line
    for name, value in options.items():
        yield f"{name} {value}"


def executable(outside_path: Sequence[str] = _OUTSIDE_PATH) -> str:
    """Return the path of Mosquitto. Raises LocalError with the package to install."""
    # Debian installs it in /usr/sbin, which is only in root's PATH.
    path = os.pathsep.join((os.environ.get("PATH", os.defpath), *outside_path))
    found = shutil.which("mosquitto", path=path)
    if found is None:
        raise LocalError(
            "Mosquitto is not installed: `apt-get install mosquitto mosquitto-clients` (Debian, Ubuntu), "
            "`dnf install mosquitto` (Fedora), `brew install mosquitto` (macOS), "
            "or set DEVICESTAT_MQTT_URL to a broker of your own"
        )
    return found


def template() -> str:
    """Return the text of mosquitto.conf."""
    packaged = resources.files("deploy") / "mosquitto.conf"  # in a wheel
    if packaged.is_file():
        return packaged.read_text(encoding="utf-8")
    return (Path(__file__).parents[2] / "mosquitto.conf").read_text(encoding="utf-8")


def _first_user(names: tuple[str, ...]) -> str:
    known = {entry.pw_name for entry in pwd.getpwall()}
    return next((name for name in names if name in known), names[-1])
