"""A PgBouncer in front of the tests' PostgreSQL."""

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from deploy.local.postgres import SYSTEM_USER
from shared.postgres.roles import SERVICES
from tests.ports import free_port
from tests.roles import url_as
from tests.waiting import eventually

_CONFIGURATION = """
[databases]
* = host={host} port={port}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {own_port}
unix_socket_dir =
auth_type = trust
auth_file = {users}
pool_mode = {mode}
default_pool_size = {size}
server_round_robin = {round_robin}
"""


def program() -> str:
    """Return the path of PgBouncer; skip the test if it is not installed."""
    found = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    if found is None:
        pytest.skip("needs PgBouncer: apt-get install pgbouncer, or brew install pgbouncer")
    return found


@contextmanager
def pgbouncer(url: str, mode: str, *, size: int = 20, round_robin: int = 0) -> Iterator[str]:
    """Run a PgBouncer for the block; yield the URL of the database through it.

    `mode`: session, transaction or statement. `size`: server connections of each user and database.
    """
    own_port, target = free_port(), conninfo_to_dict(url)
    with tempfile.TemporaryDirectory(prefix="ds") as name:
        directory = Path(name)
        users = directory / "users"
        users.write_text("".join(f'"{user}" "{password}"\n' for user, password in _users(url)))
        configuration = directory / "pgbouncer.ini"
        configuration.write_text(
            _CONFIGURATION.format(
                host=target["host"], port=target.get("port") or 5432, own_port=own_port, users=users, mode=mode,
                size=size, round_robin=round_robin,
            )
        )  # fmt: skip
        user = _unprivileged()
        for path in (directory, users, configuration):
            if user is not None:
                shutil.chown(path, user)
        process = subprocess.Popen([program(), "--quiet", str(configuration)], user=user, stderr=subprocess.DEVNULL)
        try:
            parts = urlsplit(url)
            user_info = parts.netloc.rpartition("@")[0]
            yield urlunsplit(parts._replace(netloc=f"{user_info}@127.0.0.1:{own_port}", query=""))
        finally:
            process.terminate()
            process.wait()


def _users(url: str) -> Iterator[tuple[str, str]]:
    own = urlsplit(url)
    yield own.username or "postgres", own.password or ""
    for service, role in SERVICES.items():
        yield role, urlsplit(url_as(url, service)).password or ""


def _unprivileged() -> str | None:
    """Return the user that root runs it as, because PgBouncer refuses root. PostgreSQL's user may use its socket."""
    if os.geteuid() != 0:
        return None
    try:
        return pwd.getpwnam(SYSTEM_USER).pw_name
    except KeyError:
        return "nobody"


async def until_it_answers(url: str) -> None:
    """Wait until it accepts connections."""

    async def answers() -> bool:
        try:
            async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
                await connection.execute("SELECT 1")
        except psycopg.OperationalError:
            return False
        return True

    await eventually(answers, bool)
