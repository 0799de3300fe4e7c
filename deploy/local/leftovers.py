"""Lock of the data directory for one `devicestat up`, and cleanup of its leftover children.

The system releases the lock when its process ends, also if it is killed. Children of a killed `up` are identified by
process id and creation time, which together are unique.
"""

import contextlib
import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import psutil

from deploy.local.children import Program
from shared.errors import LocalError

STOP_TIMEOUT_S = 15.0
POLL_S = 0.02
CREATED_WITHIN_S = 1.0
"""Tolerance for a creation time, which is computed from a boot time that clock corrections change."""


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Lock the directory for the block. Raises LocalError if another process holds the lock."""
    with (directory / "lock").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise LocalError(
                f"a `devicestat up` with the data directory {directory} is running (process {file.read()}): "
                "stop that one first, or give this one another --data-dir, --http-port and --mqtt-port, "
                "DEVICESTAT_INGESTOR_METRICS_PORT and DEVICESTAT_WORKER_METRICS_PORT"
            ) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


class _Child(msgspec.Struct, frozen=True):
    name: str
    pid: int
    created: float
    stop_signal: int


class ChildrenFile:
    """File in the data directory that lists the running children, in the order of their first start."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / "children.json"
        self._children: dict[str, _Child | None] = {}  # None keeps the place of one that is being restarted

    def add(self, program: Program, pid: int) -> None:
        """Add a child that was started."""
        try:
            created = psutil.Process(pid).create_time()
        except psutil.NoSuchProcess:
            return
        self._children[program.name] = _Child(program.name, pid, created, program.stop_signal)
        self._write()

    def remove(self, pid: int) -> None:
        """Remove a child that has ended."""
        for name, child in self._children.items():
            if child is not None and child.pid == pid:
                self._children[name] = None
        self._write()

    def end_leftovers(self, say: Callable[[str], None]) -> None:
        """End the children that an earlier `up` left running, in the reverse order of their start."""
        for child in reversed(self._read()):
            process = _find(child)
            if process is not None:
                say(f"{child.name} (process {child.pid}) was left running by an `up` that was killed: stopped")
                _end(process, child.stop_signal)
        self._write()

    def _read(self) -> list[_Child]:
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=list[_Child])
        except (FileNotFoundError, msgspec.DecodeError):
            return []

    def _write(self) -> None:
        new = self._path.with_suffix(".new")
        new.write_bytes(msgspec.json.encode([child for child in self._children.values() if child]))
        new.replace(self._path)


def _find(child: _Child) -> psutil.Process | None:
    try:
        process = psutil.Process(child.pid)
        same = abs(process.create_time() - child.created) < CREATED_WITHIN_S
    except psutil.NoSuchProcess:
        return None
    return process if same and _runs(process) else None


def _end(process: psutil.Process, stop_signal: int) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):
        process.send_signal(stop_signal)
        if not _ends_within(process, STOP_TIMEOUT_S):
            process.kill()
            _ends_within(process, STOP_TIMEOUT_S)


def _ends_within(process: psutil.Process, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while _runs(process):
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_S)
    return True


def _runs(process: psutil.Process) -> bool:
    # A zombie counts as ended: its parent is gone, and its new parent may reap it late.
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
