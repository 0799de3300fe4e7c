"""`devicestat dead-letters list|show|purge` on a real table."""

import asyncio
import signal
from asyncio.subprocess import PIPE
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest

from deploy.terminal import counted
from shared import dead_letters
from shared.database import connect
from shared.models import DeadLetter, Reason, to_microseconds
from tests.command import argv, environment, run
from tests.waiting import eventually

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)


@pytest.fixture
async def letters(database_url: str) -> str:
    """Four dead letters, an hour apart; the URL of their database."""
    given = [
        (10, "devices/1/stats", b'{"x": 1}', Reason.INVALID_READING, "y is missing"),
        (11, "devices/2/stats", b"\x83\xa1x\x01", Reason.MALFORMED, "cut"),
        (12, "devices/1/stats", b'{"x": 5000, "y": 0, "z": 0}', Reason.OUT_OF_RANGE, "x is 5000"),
        (13, "devices/\x1b[2J/stats", b"{}", Reason.UNKNOWN_DEVICE, "no such device"),
    ]
    async with await connect(database_url, "test") as connection:
        await dead_letters.add(
            connection,
            [
                DeadLetter(
                    received_at=to_microseconds(NOON.replace(hour=hour)),
                    topic=topic,
                    content_type=None,
                    payload=payload,
                    reason=reason,
                    detail=detail,
                )
                for hour, topic, payload, reason, detail in given
            ],
        )
    return database_url


def remaining(url: str) -> list[str]:
    with psycopg.connect(url) as connection:
        return [row[0] for row in connection.execute("SELECT reason FROM dead_letters ORDER BY id")]


def test_list_shows_the_newest_first(letters: str) -> None:
    result = run("dead-letters", "list", database_url=letters)
    assert (result.returncode, result.stderr) == (0, "")
    header, *lines, total = result.stdout.splitlines()
    assert header.split() == ["id", "received", "reason", "topic", "bytes", "detail"]
    assert lines[1].rstrip().split(maxsplit=6) == [
        *("3", "2026-01-31", "12:00:00", "out_of_range", "devices/1/stats", "27", "x is 5000")
    ]
    assert [line.split()[0] for line in lines] == ["4", "3", "2", "1"]
    assert total == "4 of 4 dead letters"
    assert "\x1b" not in result.stdout


def test_the_options_select(letters: str) -> None:
    expected = {
        "--reason malformed": 1,
        "--topic devices/1/stats": 2,
        "--topic devices/+/stats": 4,
        "--since 2026-01-31T12:00": 2,
        "--until 2026-01-31T11:00Z": 2,
        "--since 2026-01-31T11:00 --until 2026-01-31T12:00 --topic devices/1/#": 1,
        "--since 1h": 0,
    }
    for options, count in expected.items():
        result = run("dead-letters", "list", *options.split(), database_url=letters)
        shown = "no dead letters" if count == 0 else f"{count} of {counted(count, 'dead letter')}"
        assert result.stdout.splitlines()[-1] == shown, options


def test_list_says_how_many_more_there_are(letters: str) -> None:
    assert "1 of 4 dead letters" in run("dead-letters", "list", "--limit", 1, database_url=letters).stdout


def test_show_has_all_of_one(letters: str) -> None:
    result = run("dead-letters", "show", 3, database_url=letters)
    assert result.returncode == 0
    for part in ("out_of_range", "x is 5000", "devices/1/stats", "27 bytes", '{"x": 5000, "y": 0, "z": 0}'):
        assert part in result.stdout
    assert "00000000  83 a1 78 01" in run("dead-letters", "show", 2, database_url=letters).stdout


def test_show_of_none_says_so(letters: str) -> None:
    result = run("dead-letters", "show", 99, database_url=letters)
    assert result.returncode == 1
    assert "there is no dead letter 99" in result.stderr


def test_purge_asks_first(letters: str) -> None:
    refused = run("dead-letters", "purge", typed="n\n", database_url=letters)
    assert refused.returncode == 1
    assert "Delete 4 dead letters for good?" in refused.stdout
    assert len(remaining(letters)) == 4
    agreed = run("dead-letters", "purge", "--topic", "devices/1/stats", typed="y\n", database_url=letters)
    assert "deleted 2 dead letters" in agreed.stdout
    assert remaining(letters) == ["malformed", "unknown_device"]


def test_purge_with_yes_deletes_what_is_selected(letters: str) -> None:
    result = run("dead-letters", "purge", "--yes", "--reason", "malformed", database_url=letters)
    assert (result.returncode, result.stdout) == (0, "deleted 1 dead letter\n")
    assert "malformed" not in remaining(letters)
    assert run("dead-letters", "purge", "--yes", "--reason", "malformed", database_url=letters).returncode == 0


async def test_an_interrupted_replay_says_what_was_done(letters: str) -> None:
    command = argv("dead-letters", "replay")
    waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted AND pid != pg_backend_pid()"
    async with await connect(letters, "test") as connection, connection.transaction():
        await connection.execute("SELECT FROM dead_letters WHERE id = 3 FOR UPDATE")
        process = await asyncio.create_subprocess_exec(*command, env=environment(database_url=letters), stdout=PIPE)

        async def waits() -> bool:
            return await (await connection.execute(waiting)).fetchone() != (0,)

        await eventually(waits, bool)
        process.send_signal(signal.SIGINT)
        said, _ = await process.communicate()
    assert process.returncode == 1
    done = ["2 of 4 dead letters replayed", "2 readings refused again: unknown_device"]
    assert said.decode().splitlines() == done


def test_help_says_all_of_what_replay_does() -> None:
    assert "Replay them as if they had just arrived." in run("dead-letters", "--help").stdout


@pytest.mark.parametrize(
    "options",
    [["--topic", "a/#/b"], ["--since", "999999d"], ["--since", "yesterday"], ["--reason", "boredom"], ["--limit", "0"]],
)
def test_a_wrong_option_is_explained(options: list[str]) -> None:
    result = run("dead-letters", "list", *options)
    assert result.returncode == 2
    assert options[0] in result.stderr
    assert "Traceback" not in result.stderr


def test_a_database_without_a_schema_is_named(empty_database_url: str, tmp_path: Path) -> None:
    result = run("dead-letters", "list", database_url=empty_database_url, cwd=tmp_path)
    assert result.returncode == 1
    assert "run `devicestat migrate`" in result.stderr
