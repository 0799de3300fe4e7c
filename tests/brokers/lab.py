"""Brokers for the tests: those of a TOML file, by default Mosquitto.

    DEVICESTAT_TEST_BROKERS=brokers.toml make brokers

    [[brokers]]
    name = "HiveMQ CE 2024.3"
    start = "/opt/hivemq/run {directory} {port}"

`start` is a command that runs until it is stopped, or one that ends when the broker starts (`docker start …`).
`{directory}` is an empty directory for each test, `{port}` a free port of 127.0.0.1.

- `url`: URL of the broker, by default mqtt://127.0.0.1:{port}. Without `start` the broker must run already, is not
  restarted, and must have no other publisher to `devices/+/stats`.
- `stop`, `kill`: commands that stop and kill it; by default SIGTERM and SIGKILL to the process.
- `asks`: like `start`, for a broker that authenticates with the API at `{api}` and `{secret}`
  (docs/broker-authentication.md, with `rules=ask`).
- `rate`: messages a second of the tests, by default 2,000; fewer for a slower broker.
- `exact`: whether nothing may be stored twice while the broker runs.
"""

import asyncio
import os
import shlex
import signal
import subprocess
import tempfile
import time
import tomllib
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import msgspec

from deploy.local.mosquitto import EmbeddedMosquitto, executable
from tests.brokers.client import connected
from tests.ports import free_port
from tests.waiting import HANG_S

VARIABLE = "DEVICESTAT_TEST_BROKERS"
TRY_AGAIN_S = 0.2


class Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A broker of the file."""

    name: str
    start: str | None = None
    url: str = "mqtt://127.0.0.1:{port}"
    stop: str | None = None
    kill: str | None = None
    rate: float = 2_000.0
    exact: bool = False
    asks: str | None = None


def entries() -> list[Entry]:
    """The brokers to test, in the order of the file."""
    path = os.environ.get(VARIABLE)
    if not path:
        return [Entry(name=_mosquitto(), exact=True)]
    return msgspec.convert(tomllib.loads(Path(path).read_text()), dict[str, list[Entry]])["brokers"]


def _mosquitto() -> str:
    said = subprocess.run([executable(), "-h"], capture_output=True, text=True, check=False).stdout
    return "Mosquitto " + said.split()[2]


class Lab:
    """A broker for a test."""

    def __init__(self, entry: Entry, directory: Path) -> None:
        self.entry = entry
        self._places = {"directory": str(directory), "port": str(free_port())}
        self.url = self._filled(entry.url)
        self._process: subprocess.Popen[bytes] | None = None
        self._log = directory.with_suffix(".log")

    @property
    def address(self) -> tuple[str, int]:
        """URL of the broker."""
        parts = urlsplit(self.url)
        assert parts.hostname is not None
        return parts.hostname, parts.port or 1883

    def url_at(self, port: int) -> str:
        """Return the URL with a port of 127.0.0.1."""
        parts = urlsplit(self.url)
        login, at, _ = parts.netloc.rpartition("@")
        return urlunsplit(parts._replace(netloc=f"{login}{at}127.0.0.1:{port}"))

    @property
    def restarts(self) -> bool:
        """Whether the test can stop it."""
        return self.entry.start is not None

    async def start(self) -> None:
        """Start it, and wait until it accepts a client."""
        self._begin()
        await self._ready()

    def _begin(self) -> None:
        if self.entry.start is not None:
            with self._log.open("ab") as log:
                command = shlex.split(self._filled(self.entry.start))
                self._process = subprocess.Popen(command, stdout=log, stderr=log)

    def stop(self) -> None:
        """Stop it."""
        self._end(self.entry.stop, signal.SIGTERM)

    def kill(self) -> None:
        """Kill it."""
        self._end(self.entry.kill, signal.SIGKILL)

    def _end(self, command: str | None, number: signal.Signals) -> None:
        if command is not None:
            subprocess.run(shlex.split(self._filled(command)), check=True, timeout=HANG_S)
        elif self._process is not None and self._process.poll() is None:
            self._process.send_signal(number)
        if self._process is not None:
            self._process.wait(timeout=HANG_S)

    async def _ready(self) -> None:
        ends = time.monotonic() + HANG_S
        while True:
            try:
                return await self._takes_a_client()
            except (OSError, AssertionError):
                assert time.monotonic() < ends, self._log.read_text(errors="replace")[-2000:]
                await asyncio.sleep(TRY_AGAIN_S)

    async def _takes_a_client(self) -> None:
        """Connect once. Raises OSError or AssertionError if the broker does not accept a client."""
        async with connected(self.url, "devicestat-test-ready", clean=True):
            pass

    def _filled(self, text: str) -> str:
        return text.format_map(self._places)


class MosquittoLab(Lab):
    """Return Mosquitto from the system's packages with the project's configuration."""

    def __init__(self, entry: Entry, own: EmbeddedMosquitto) -> None:
        super().__init__(msgspec.structs.replace(entry, url=own.url), own.directory)
        self._own = own

    restarts = True

    def _begin(self) -> None:
        self._own.start()

    def stop(self) -> None:
        self._own.stop()

    def kill(self) -> None:
        self._own.kill()


@asynccontextmanager
async def running(entry: Entry) -> AsyncIterator[Lab]:
    """Run a new instance of the broker for the block."""
    with (
        tempfile.TemporaryDirectory(prefix="ds", ignore_cleanup_errors=True) as directory,
        _lab(entry, directory) as lab,
    ):
        try:
            await lab.start()
            yield lab
        finally:
            lab.kill()


@contextmanager
def _lab(entry: Entry, directory: str) -> Iterator[Lab]:
    data = Path(directory) / "b"
    data.mkdir()
    if entry.start is None and "{port}" in entry.url:
        yield MosquittoLab(entry, EmbeddedMosquitto(data, free_port()))
    else:
        yield Lab(entry, data)
