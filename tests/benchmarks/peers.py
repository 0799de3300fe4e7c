"""The peers: programs in C between the same broker and the same database, without guarantees.

Each is `mosquitto_sub -q 1 -F … | psql`, into a table with the same columns, constraints and unique key. It does not
decode, because its messages are columns already.
"""

import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import psycopg

from deploy.local.mosquitto import EmbeddedMosquitto
from deploy.local.postgres import EmbeddedPostgres

_CREATE = "CREATE TABLE peer (LIKE readings INCLUDING ALL)"


def make_table(database: psycopg.Connection) -> None:
    """The peers' table."""
    database.execute(_CREATE)


@contextmanager
def subscriber(
    server: EmbeddedMosquitto, form: str, *options: str, stdout: int = subprocess.PIPE
) -> Iterator["subprocess.Popen[bytes]"]:
    """Run mosquitto_sub, which prints messages in the given form. The block begins when it is subscribed."""
    command = ["mosquitto_sub", "-h", server.host, "-p", str(server.port), "-V", "5", "-q", "1",
               "-i", "peer", "-c", "-x", "3600", "-t", "devices/+/stats"]  # fmt: skip
    subprocess.run([*command, "-E"], check=True)  # from now on the broker queues for it
    with subprocess.Popen([*command, "-F", form, *options], stdout=stdout) as process:
        try:
            yield process
        finally:
            process.kill()  # after SIGTERM between messages it sometimes hangs


@contextmanager
def psql(
    postgres: EmbeddedPostgres, lines: "subprocess.Popen[bytes]", *options: str
) -> Iterator["subprocess.Popen[bytes]"]:
    """Run psql, which reads the output of the other program, for the block."""
    program = Path(postgres.program.argv[0]).with_name("psql")
    command: Sequence[str] = [str(program), "-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", postgres.url, *options]
    with subprocess.Popen(command, stdin=lines.stdout) as process:
        assert lines.stdout is not None
        lines.stdout.close()  # only psql has the pipe, so the subscriber notices its end
        try:
            yield process
        finally:
            process.kill()


def ended(process: "subprocess.Popen[bytes]") -> float:
    """Wait for a clean end; return the CPU time in seconds."""
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, f"{process.args} ended with {process.returncode}"
    return usage.ru_utime + usage.ru_stime
