"""Child processes: PostgreSQL, Mosquitto and Devicestat's services, under `up` and in tests.

A `Program` describes how to run, probe and stop one. An `EmbeddedServer` is a server with its files in one directory.
Tests use it as a context manager (`with EmbeddedPostgres(directory) as postgres:`). `up` calls its steps (prepare,
program, complete), and its supervisor runs the program.
"""

import math
import os
import pwd
import signal
import stat
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec

from shared.errors import LocalError
from shared.settings import Settings

START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 30.0
POLL_S = 0.02
LOG_LINES_SHOWN = 8


class Explanation(msgspec.Struct, frozen=True):
    """Explanation of a line in a program's output. `final`: the program would fail again if it were restarted."""

    text: str
    final: bool = False


def _nothing(_: str) -> Explanation | None:
    return None


def service_start_timeout_s(settings: Settings) -> float | None:
    """Return the time within which a service must be ready, after a wait for its servers up to START_TIMEOUT."""
    patience = settings.start_timeout
    return None if patience is None else patience.total_seconds() + START_TIMEOUT_S


class Program(msgspec.Struct, frozen=True, kw_only=True):
    """A program: how to run it, to check its readiness, and to stop it."""

    name: str
    argv: tuple[str, ...]
    ready: Callable[[], bool]
    user: str | None = None
    directory: Path | None = None
    environment: Mapping[str, str] | None = None
    stop_signal: signal.Signals = signal.SIGTERM
    start_timeout_s: float | None = START_TIMEOUT_S  # None: no limit
    final_exit_codes: frozenset[int] = frozenset()  # after these it is not restarted, if it was ready
    pass_fds: tuple[int, ...] = ()  # inherited file descriptors
    stops_with_parent: bool = False  # it watches the lifeline of its supervisor
    explain: Callable[[str], Explanation | None] = _nothing  # called with each line of its output

    def popen_options(self) -> dict[str, Any]:
        """Return the arguments of Popen besides argv.

        The program runs in a session of its own, so Ctrl-C in the terminal does not reach it: its parent stops it.
        """
        options: dict[str, Any] = {
            "stdin": subprocess.DEVNULL,
            "start_new_session": True,
            "cwd": self.directory,
            "env": self.environment,
            "pass_fds": self.pass_fds,
        }
        if self.user is not None:
            group = pwd.getpwnam(self.user).pw_gid
            options |= {"user": self.user, "group": group, "extra_groups": []}
        return options


class EmbeddedServer(ABC):
    """A server on this machine with its files in one directory: its data in `data/`, its output in `log`."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory.absolute()
        self.data = self.directory / "data"
        self.log = self.directory / "log"
        self.opened: list[Path] = []
        """Parent directories to which `prepare` gave every user search permission."""
        self._process: subprocess.Popen[bytes] | None = None

    @property
    @abstractmethod
    def program(self) -> Program:
        """The server's program. Call `prepare` before it runs."""

    @abstractmethod
    def prepare(self) -> None:
        """Create the files that the server needs to start. Raises LocalError."""

    def complete(self) -> None:
        """Finish the setup, once the server runs."""
        return

    @property
    def pid(self) -> int:
        """The process id of the running server."""
        assert self._process is not None, "start it first"
        return self._process.pid

    def start(self) -> None:
        """Start the server; return when it is ready. Raises LocalError with the end of its log."""
        self.prepare()
        program = self.program
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                program.argv, stdout=log, stderr=subprocess.STDOUT, **program.popen_options()
            )
        try:
            self._wait_until_ready(program)
            self.complete()
        except BaseException:
            self.kill()
            raise

    def _wait_until_ready(self, program: Program) -> None:
        assert self._process is not None
        deadline = math.inf if program.start_timeout_s is None else time.monotonic() + program.start_timeout_s
        while not program.ready():
            ended = self._process.poll() is not None
            if ended or time.monotonic() > deadline:
                said = "\n".join(self.log.read_text(errors="replace").splitlines()[-LOG_LINES_SHOWN:])
                self._raise_explained(program)
                how = "ended during its start" if ended else f"was not ready after {program.start_timeout_s or 0:g} s"
                raise LocalError(f"{program.name} {how}; the end of {self.log}:\n{said}")
            time.sleep(POLL_S)

    def _raise_explained(self, program: Program) -> None:
        for line in self.log.read_text(errors="replace").splitlines()[-LOG_LINES_SHOWN:]:
            if (explanation := program.explain(line)) is not None and explanation.final:
                raise LocalError(explanation.text)

    def stop(self) -> None:
        """Stop the server with its signal; if it does not end in time, kill it."""
        if self._process is None:
            return
        self._process.send_signal(self.program.stop_signal)
        try:
            self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """Send SIGKILL, as a crash would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def server_user(data: Path, otherwise: str) -> str | None:
    """Return the user that root runs a server as: the owner of its data, else `otherwise`. None unless this is root."""
    if os.geteuid() != 0:
        return None
    owner = data.owner() if data.exists() else "root"
    return otherwise if owner == "root" else owner


def make_directory(directory: Path, user: str | None = None) -> list[Path]:
    """Create the directory. If a user is given, make it the owner and make the directory reachable. Raises LocalError.

    Returns the parent directories whose permissions were changed for this.
    """
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        if user is not None:
            entry = pwd.getpwnam(user)
            os.chown(directory, entry.pw_uid, entry.pw_gid)
            return let_through(directory)
    except OSError as error:
        raise LocalError(
            f"the directory {directory} cannot be created or used ({error.strerror}): choose another"
        ) from error
    return []


def let_through(path: Path) -> list[Path]:
    """Give every user search permission, and no other, for the parent directories of the path.

    Returns those that were changed. Raises LocalError, before any is changed, if one belongs to another user.
    """
    search = stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH
    closed = [above for above in path.resolve().parents if above.stat().st_mode & search != search]
    for above in closed:
        if above.stat().st_uid != os.geteuid():
            raise LocalError(
                f"a server that does not run as root must reach {path}, but {above} belongs to {above.owner()} and has "
                "no search permission for others: choose another directory, such as /var/lib/devicestat"
            )
    for above in closed:
        above.chmod(stat.S_IMODE(above.stat().st_mode) | search)
    return closed
