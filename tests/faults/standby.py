"""A synchronous standby of a node of a Citus cluster, which takes over from the node, as docs/citus.md says.

It needs the programs and the data directory of the node on this machine.
"""

import asyncio
import os
import subprocess
import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest
from psycopg import sql

from tests import citus
from tests.ports import free_port
from tests.waiting import eventually

NAME = "devicestat_standby"
HOST = "127.0.0.1"

_FIND = """
    SELECT current_setting('data_directory'), current_setting('config_file'), setting
    FROM pg_config WHERE name = 'BINDIR'
"""
_REQUIRE = sql.SQL("ALTER SYSTEM SET synchronous_standby_names = {}").format(sql.Literal(NAME))
_RESET = sql.SQL("ALTER SYSTEM RESET synchronous_standby_names")
_RELOAD = sql.SQL("SELECT pg_reload_conf()")
_FORGET = sql.SQL("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = {}").format(
    sql.Literal(NAME)
)
_IS_SYNCHRONOUS = sql.SQL("SELECT FROM pg_stat_replication WHERE application_name = {} AND sync_state = 'sync'").format(
    sql.Literal(NAME)
)
_PROMOTE = sql.SQL("SELECT pg_promote()")


class Standby:
    """A running standby. `url`: of the test's database on it, before and after it has taken over."""

    def __init__(self, number: int, node: str, directory: Path) -> None:
        """`number`: of the node, `node`: the URL of the test's database on it."""
        self.port = free_port()
        parts = urlsplit(node)
        self.url = urlunsplit(parts._replace(netloc=f"{parts.netloc.rpartition('@')[0]}@{HOST}:{self.port}"))
        self._number = number
        self._node = node
        self._directory = directory
        self._programs, data = _programs_and_data(node)
        self._user = _as_owner_of(data)
        self._has_taken_over = False

    def start(self) -> None:
        """Copy the node, and let its commits wait for this standby from now on."""
        if user := self._user.get("user"):
            os.chown(self._directory, user, self._user["group"])
        source = f"{self._node}{'&' if '?' in self._node else '?'}application_name={NAME}"
        copy = ("--checkpoint=fast", "--wal-method=stream", "--write-recovery-conf", "--create-slot", f"--slot={NAME}")
        self._run("pg_basebackup", f"--dbname={source}", f"--pgdata={self._data}", *copy)
        self._control("start", "--wait", f"--log={self._directory / 'log'}", f"--options=-c port={self.port}")
        _execute(self._node, _REQUIRE, _RELOAD)

    def is_synchronous(self) -> bool:
        """Whether each commit of the node waits for this standby."""
        with psycopg.connect(self._node, autocommit=True) as connection:
            return connection.execute(_IS_SYNCHRONOUS).rowcount > 0

    def take_over(self, kill: Callable[[], object]) -> None:
        """Kill the node, and promote the standby."""
        self._has_taken_over = True
        kill()
        _execute(self.url, _PROMOTE)

    def end(self) -> None:
        """End the standby, and let the node run without it."""
        if self._has_taken_over:
            self._stop()
            citus.command_node("start", self._number)
        _execute(self._node, _RESET, _RELOAD)
        if not self._has_taken_over:
            self._stop()
        _execute(self._node, _FORGET)

    @property
    def _data(self) -> Path:
        return self._directory / "data"

    def _stop(self) -> None:
        if (self._data / "postmaster.pid").exists():
            self._control("stop", "--wait", "--mode=immediate")

    def _control(self, action: str, *arguments: str) -> None:
        self._run("pg_ctl", action, f"--pgdata={self._data}", *arguments)

    def _run(self, program: str, *arguments: str) -> None:
        # Its output is a file: a server that pg_ctl starts would keep a pipe open.
        with (self._directory / "output").open("a+") as output:
            code = subprocess.call(
                [str(self._programs / program), *arguments],
                stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd=self._directory, **self._user,
            )  # fmt: skip
            output.seek(0)
            assert code == 0, output.read()


def _programs_and_data(node: str) -> Sequence[Path]:
    """Return the directories of the programs and of the data of the node; skip the test if they are not here."""
    with psycopg.connect(node, autocommit=True) as connection:
        data, configuration, programs = map(Path, connection.execute(_FIND).fetchone() or ())
    if not (os.access(data, os.R_OK) and (data / "postmaster.pid").exists() and (programs / "pg_basebackup").exists()):
        pytest.skip(f"the node's data {data}, or its programs {programs}, are not on this machine")
    if configuration.parent != data:
        pytest.skip(f"the node's configuration {configuration} is not in its data directory, so it is not copied")
    return programs, data


def _as_owner_of(data: Path) -> dict[str, Any]:
    """Return the arguments of Popen to run a server as the owner of the data, which only root has to."""
    owner = data.stat()
    return {"user": owner.st_uid, "group": owner.st_gid, "extra_groups": []} if os.geteuid() == 0 else {}


def _execute(url: str, *statements: sql.Composable) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement)


@asynccontextmanager
async def standby_of(number: int, node: str) -> AsyncIterator[Standby]:
    """Run a synchronous standby of the node for the block; then the node runs without it.

    `number`: of the node, for the command that kills nodes. `node`: the URL of the test's database on it.
    """
    with tempfile.TemporaryDirectory(prefix="ds") as directory:
        standby = Standby(number, node, Path(directory))
        try:
            await asyncio.to_thread(standby.start)
            await eventually(lambda: asyncio.to_thread(standby.is_synchronous), bool)
            yield standby
        finally:
            await asyncio.to_thread(standby.end)
