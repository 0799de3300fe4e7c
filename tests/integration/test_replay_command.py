"""`devicestat dead-letters replay` on a real table: a line for each, no duplicates, and a clean end at a signal."""

import asyncio
import os
import pty
import re
import signal
import subprocess
import termios
from asyncio.subprocess import PIPE
from contextlib import suppress

import psycopg
import pytest

from deploy.dead_letters.replay import replay
from deploy.terminal import Terminal
from shared.dead_letters.selection import Selection
from shared.postgres.connections import Connection, connect
from shared.settings import Settings
from tests import locks
from tests.command import argv, environment, run
from tests.conftest import Database
from tests.letters import FOUR, keep, left, letter
from tests.waiting import HANG_S, eventually

MANY = 200
_UNKNOWN = "refused again: unknown_device: no device has the key {!r}: register it with POST /devices, or set "


@pytest.fixture
async def letters(database_url: str) -> str:
    """URL of a database with four dead letters of unknown devices."""
    return await keep(database_url, FOUR)


async def register(connection: Connection, *keys: str) -> None:
    for key in keys:
        await connection.execute("INSERT INTO devices (key, name) VALUES (%s, %s)", (key, key))


async def test_what_became_of_each_is_a_line(database_url: str, database: Database) -> None:
    await register(database, "1")
    reading = b'{"x":1,"y":2,"z":3}'
    await keep(
        database_url,
        [
            letter("devices/1/stats", reading),
            letter("devices/1/stats", reading),
            letter("devices/1/stats", b'[{"x":2,"y":2,"z":3},{"x":3,"y":2,"z":3},{"x":"3","y":2,"z":3}]'),
            letter("devices/2/stats", b"[" + reading + b"," + reading + b"]"),
            letter("devices/1/stats", b'{"x":1,"y'),
        ],
    )
    result = run("dead-letters", "replay", database_url=database_url)
    assert (result.returncode, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    assert lines[:3] == [
        "1  1 reading stored",
        "2  1 reading there already",
        "3  2 readings stored, 1 reading refused again: invalid_reading: x: expected a number, got a string",
    ]
    assert lines[3].startswith("4  " + _UNKNOWN.format("2"))
    assert lines[4].startswith("5  refused again: malformed: ")
    assert lines[5:] == [
        "5 of 5 dead letters replayed",
        "3 readings stored",
        "1 reading there already",
        "1 reading refused again: invalid_reading",
        "2 readings refused again: unknown_device",
        "1 reading refused again: malformed",
    ]
    assert left(database_url) == [3, 4, 5]


async def test_a_refusal_of_many_lines_stays_on_one(database_url: str, database: Database) -> None:
    await register(database, "1")
    await database.execute("ALTER TABLE readings ADD CONSTRAINT not_one CHECK (x <> 1)")
    await keep(database_url, [letter("devices/1/stats", b'{"x":1,"y":2,"z":3}')])
    line, total, fate = run("dead-letters", "replay", database_url=database_url).stdout.splitlines()
    assert re.match(r"1  refused again: database_refused: new row for .* not_one.* DETAIL: ", line.replace('"', ""))
    assert (total, fate) == ("1 of 1 dead letter replayed", "1 reading refused again: database_refused")


async def test_a_second_replay_stores_nothing_twice(database_url: str, database: Database) -> None:
    await register(database, "1")
    await keep(database_url, [letter("devices/1/stats", b'{"x":%d,"y":2,"z":3}' % x) for x in range(3)])
    first = run("dead-letters", "replay", database_url=database_url)
    assert first.stdout.splitlines()[-2:] == ["3 of 3 dead letters replayed", "3 readings stored"]
    second = run("dead-letters", "replay", database_url=database_url)
    assert (second.returncode, second.stdout) == (0, "0 of 0 dead letters replayed\n")
    cursor = await database.execute("SELECT x FROM readings ORDER BY x")
    assert await cursor.fetchall() == [(0,), (1,), (2,)]


async def test_two_replays_at_once_store_nothing_twice(database_url: str, database: Database) -> None:
    """Both read all ids before either stores a reading; half of the readings are in other months."""
    await register(database, "1")
    given = [letter("devices/1/stats", b'[{"x":%d,"y":0,"z":0},{"x":%d,"y":1,"z":0}]' % (x, x)) for x in range(MANY)]
    await keep(database_url, given)
    command, variables = argv("dead-letters", "replay"), environment(database_url=database_url)
    async with await connect(database_url, "test") as connection:
        async with connection.transaction():
            await connection.execute("SELECT FROM dead_letters WHERE id = 1 FOR UPDATE")
            processes = [await asyncio.create_subprocess_exec(*command, env=variables, stdout=PIPE) for _ in range(2)]
            await eventually(lambda: locks.waiting(database), lambda seen: len(seen) >= 2)
        said = [(await process.communicate())[0].decode() for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    ends = re.findall(r"^(\d+)  (.*)$", "".join(said), re.MULTILINE)
    stored = [int(number) for number, end in ends if end == "2 readings stored"]
    gone = [int(number) for number, end in ends if end == "already replayed or purged"]
    assert sorted(stored) == sorted(gone) == list(range(1, MANY + 1))
    cursor = await database.execute("SELECT x, y, count(*) FROM readings GROUP BY x, y ORDER BY x, y")
    assert await cursor.fetchall() == [(x, y, 1) for x in range(MANY) for y in (0, 1)]
    assert left(database_url) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_an_interrupted_replay_says_what_was_done(letters: str, number: signal.Signals) -> None:
    """The current dead letter cannot be finished: after a time limit it is left unchanged."""
    async with await connect(letters, "test") as connection, connection.transaction():
        await connection.execute("SELECT FROM dead_letters WHERE id = 3 FOR UPDATE")
        process = await asyncio.create_subprocess_exec(
            *argv("dead-letters", "replay"), env=environment(database_url=letters), stdout=PIPE, stderr=PIPE
        )
        await eventually(lambda: locks.waiting(connection), bool)
        process.send_signal(number)
        said, complained = await process.communicate()
    assert (process.returncode, complained.decode().strip()) == (1, "Aborted!")
    one, two, *totals = said.decode().splitlines()
    assert one.startswith("1  " + _UNKNOWN.format("1"))
    assert two.startswith("2  " + _UNKNOWN.format("2"))
    assert totals == ["2 of 4 dead letters replayed", "2 readings refused again: unknown_device"]
    with psycopg.connect(letters) as reader:
        assert reader.execute("SELECT reason, detail FROM dead_letters WHERE id = 3").fetchone() == (
            ("out_of_range", "x is 5000")
        )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_lets_the_current_dead_letter_finish(
    letters: str, database: Database, number: signal.Signals, capsys: pytest.CaptureFixture[str]
) -> None:
    async with await connect(letters, "test") as connection:
        async with connection.transaction():
            await connection.execute("SELECT FROM dead_letters WHERE id = 3 FOR UPDATE")
            replaying = asyncio.create_task(replay(database, Settings(), Selection(), Terminal()), name="replay")
            await eventually(lambda: locks.waiting(connection), bool)
            os.kill(os.getpid(), number)
        assert await replaying is False
    *lines, total, _ = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["1", "2", "3"]
    assert total == "3 of 4 dead letters replayed"


def test_help_says_all_of_what_replay_does() -> None:
    assert "Process refused readings again." in run("dead-letters", "--help").stdout


# The progress bar


def screen(written: str) -> list[str]:
    """Return the final content of a terminal, for the control sequences of rich's bar."""
    lines, row, column = [""], 0, 0
    for control, text in re.findall(r"(\x1b\[[?0-9;]*[A-Za-z]|[\r\n])|([^\x1b\r\n]+)", written):
        if control == "\n":
            row += 1
        elif control == "\r":
            column = 0
        elif control.endswith("K"):
            lines[row] = ""
        elif control.endswith("A"):
            row -= int(control[2:-1])
        lines.extend([""] * (row + 1 - len(lines)))
        lines[row] = lines[row][:column].ljust(column) + text + lines[row][column + len(text) :]
        column += len(text)
    return [line.rstrip() for line in lines]


def on_terminal(url: str, *, stdout: bool) -> tuple[str, list[str]]:
    """Replay all with standard error on a terminal, and standard output on it or in a pipe.

    Return standard output and the content of the terminal.
    """
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (50, 200))
    variables = environment(database_url=url) | {"TERM": "xterm", "COLUMNS": "200"}
    process = subprocess.Popen(
        argv("dead-letters", "replay"), env=variables, stdout=theirs if stdout else subprocess.PIPE, stderr=theirs
    )
    os.close(theirs)
    written = bytearray()
    with suppress(OSError):  # EIO: the other end is closed
        while data := os.read(ours, 65_536):
            written += data
    os.close(ours)
    piped, _ = process.communicate(timeout=HANG_S)
    assert process.returncode == 0
    return (piped or b"").decode(), screen(written.decode())


def test_the_bar_and_the_lines_do_not_garble_each_other(letters: str) -> None:
    _, shown = on_terminal(letters, stdout=True)
    for number, line in enumerate(shown[:4], 1):
        assert re.fullmatch(rf"{number}  refused again: \w+: .*(=register|/stats)", line)
    assert re.fullmatch(r"replaying ━+ 4/4 [0-9:]+", shown[4])
    assert shown[5] == "4 of 4 dead letters replayed"
    assert len(shown) == 9


def test_the_bar_stays_out_of_a_pipe(letters: str) -> None:
    piped, shown = on_terminal(letters, stdout=False)
    assert [line.split("  ")[0] for line in piped.splitlines()[:4]] == ["1", "2", "3", "4"]
    assert "\x1b" not in piped
    assert "replaying" not in piped
    assert re.fullmatch(r"replaying ━+ 4/4 [0-9:]+", shown[0])
    assert shown[1:] == [""]
