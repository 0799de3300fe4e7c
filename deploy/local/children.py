"""Programs that run as our children: PostgreSQL, Mosquitto and our own services, under `up` and in tests.

A `Program` says how one is run, seen to be ready, and stopped. An `EmbeddedServer` is a server whose files
are in one directory; by itself it is what the tests want (`with EmbeddedPostgres(directory) as postgres:`),
while `up` takes its steps apart (prepare, program, complete) and has the supervisor run the program.
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
    """What a line that a program has written means, and what to do. `final`: it would end the same way again."""

    text: str
    final: bool = False


def _nothing(_: str) -> Explanation | None:
    return None


def service_start_timeout_s(settings: Settings) -> float | None:
    """Seconds after which one of our services that is not ready has failed: it may wait up to START_TIMEOUT first."""
    patience = settings.start_timeout
    return None if patience is None else patience.total_seconds() + START_TIMEOUT_S


class Program(msgspec.Struct, frozen=True, kw_only=True):
    """How to run one program, to see that it is ready, and to stop it."""

    name: str
    argv: tuple[str, ...]
    ready: Callable[[], bool]
    user: str | None = None
    directory: Path | None = None
    environment: Mapping[str, str] | None = None
    stop_signal: signal.Signals = signal.SIGTERM
    start_timeout_s: float | None = START_TIMEOUT_S  # None: without end
    final_exit_codes: frozenset[int] = frozenset()  # once it was ready, it is not started again after these
    pass_fds: tuple[int, ...] = ()  # file descriptors that it inherits
    stops_with_parent: bool = False  # it is one of our services, and watches the lifeline of its supervisor
    explain: Callable[[str], Explanation | None] = _nothing  # called with each line that it writes

    def popen_options(self) -> dict[str, Any]:
        """What Popen takes besides argv.

        A session of its own keeps Ctrl-C in the terminal from it: whoever started it stops it in its turn.
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
    """A server on this machine, whose files are in one directory: `data/` is its own, `log` what it said."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory.absolute()
        self.data = self.directory / "data"
        self.log = self.directory / "log"
        self.opened: list[Path] = []
        """The directories above it that `prepare` has let every user pass through."""
        self._process: subprocess.Popen[bytes] | None = None

    @property
    @abstractmethod
    def program(self) -> Program:
        """The server's program, which can be run once `prepare` was called."""

    @abstractmethod
    def prepare(self) -> None:
        """Makes on disk what the server needs to start. Raises LocalError."""

    def complete(self) -> None:
        """What is left to do once the server runs."""
        return

    @property
    def pid(self) -> int:
        """The process id of the running server."""
        assert self._process is not None, "start it first"
        return self._process.pid

    def start(self) -> None:
        """Returns once the server is ready for its clients. Raises LocalError with the end of its log."""
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
                how = "ended at its start" if ended else f"was not ready after {program.start_timeout_s or 0:g} s"
                raise LocalError(f"{program.name} {how}; the end of {self.log}:\n{said}")
            time.sleep(POLL_S)

    def _raise_explained(self, program: Program) -> None:
        for line in self.log.read_text(errors="replace").splitlines()[-LOG_LINES_SHOWN:]:
            if (explanation := program.explain(line)) is not None and explanation.final:
                raise LocalError(explanation.text)

    def stop(self) -> None:
        """Stops the server as it wants to be stopped; only if it doesn't heed that, by force."""
        if self._process is None:
            return
        self._process.send_signal(self.program.stop_signal)
        try:
            self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """kill -9, as a crash would."""
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
    """Whom root runs a server as: the owner of its data, else the user given. None if we are not root."""
    if os.geteuid() != 0:
        return None
    owner = data.owner() if data.exists() else "root"
    return otherwise if owner == "root" else owner


def make_directory(directory: Path, user: str | None = None) -> list[Path]:
    """Makes the directory, as the user's own and in reach of it if one is given. Raises LocalError.

    Returns the directories above it that were opened for that.
    """
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        if user is not None:
            entry = pwd.getpwnam(user)
            os.chown(directory, entry.pw_uid, entry.pw_gid)
            return let_through(directory)
    except OSError as error:
        raise LocalError(
            f"the directory {directory} cannot be made or used ({error.strerror}): choose another"
        ) from error
    return []


def let_through(path: Path) -> list[Path]:
    """Lets every user reach the path: search permission, not more, for the directories above it that are ours.

    Returns those that were changed. Raises LocalError, before any is changed, where one is another user's.
    """
    search = stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH
    closed = [above for above in path.resolve().parents if above.stat().st_mode & search != search]
    for above in closed:
        if above.stat().st_uid != os.geteuid():
            raise LocalError(
                f"a server that is not run as root has to reach {path}, and {above} belongs to {above.owner()}, who "
                "lets nobody pass: choose a directory elsewhere, such as /var/lib/devicestat"
            )
    for above in closed:
        above.chmod(stat.S_IMODE(above.stat().st_mode) | search)
    return closed
