"""`devicestat dead-letters list|show|purge` on a real table; `replay` is in test_replay_command."""

from pathlib import Path

import pytest
from msgspec.structs import replace

from shared.dead_letters import bitmap
from shared.readings.dead_letters import Omitted, count
from shared.readings.model import ElementFault, Reason
from shared.status.words import counted
from tests.command import run
from tests.conftest import Database
from tests.letters import FOUR, keep, left

SELECTIONS = {
    "--reason malformed": [2],
    "--topic devices/1/stats": [1, 3],
    "--topic devices/+/stats": [1, 2, 3, 4],
    "--topic devices/1/#": [1, 3],
    "--since 2026-01-31T12:00": [3, 4],
    "--until 2026-01-31T11:00Z": [1, 2],
    "--since 2026-01-31T11:00 --until 2026-01-31T12:00": [2, 3],
    "--since 2026-01-31T11:00 --until 2026-01-31T12:00 --topic devices/1/#": [3],
    "--since 1h": [],
}


SELECTED = ("--reason malformed", "--topic devices/1/#", "--since 2026-01-31T11:00 --until 2026-01-31T12:00")


@pytest.fixture
async def letters(database_url: str) -> str:
    """URL of a database with four dead letters."""
    return await keep(database_url, FOUR)


def test_list_shows_the_newest_first(letters: str) -> None:
    result = run("dead-letters", "list", database_url=letters)
    assert (result.returncode, result.stderr) == (0, "")
    header, *lines, total = result.stdout.splitlines()
    assert header.split() == ["id", "received", "reason", "readings", "topic", "bytes", "detail"]
    assert lines[1].rstrip().split(maxsplit=7) == [
        *("3", "2026-01-31", "12:00:00", "out_of_range", "1", "devices/1/stats", "27", "x is 5000")
    ]
    assert [line.split()[0] for line in lines] == ["4", "3", "2", "1"]
    assert total == "4 of 4 dead letters (4 refused readings)"
    assert "\x1b" not in result.stdout


def test_the_options_select_what_is_listed(letters: str) -> None:
    for options, numbers in SELECTIONS.items():
        result = run("dead-letters", "list", *options.split(), database_url=letters)
        *lines, total = result.stdout.splitlines()
        count = len(numbers)
        counts = f"{counted(count, 'dead letter')} ({counted(count, 'refused reading')})"
        assert total == (f"{count} of {counts}" if count else "no dead letters"), options
        assert [int(line.split()[0]) for line in reversed(lines[1:])] == numbers, options


@pytest.mark.parametrize("options", SELECTED)
def test_the_options_select_what_is_replayed(letters: str, options: str) -> None:
    lines = run("dead-letters", "replay", *options.split(), database_url=letters).stdout.splitlines()
    count = len(SELECTIONS[options])
    assert [int(line.split()[0]) for line in lines[:count]] == SELECTIONS[options]
    assert lines[count] == f"{count} of {counted(count, 'dead letter')} replayed"


@pytest.mark.parametrize("options", SELECTED)
def test_the_options_select_what_is_purged(letters: str, options: str) -> None:
    said = run("dead-letters", "purge", "--yes", *options.split(), database_url=letters).stdout
    assert said == f"deleted {counted(len(SELECTIONS[options]), 'dead letter')}\n"
    assert left(letters) == [number for number in (1, 2, 3, 4) if number not in SELECTIONS[options]]


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
    assert "Delete 4 dead letters (4 refused readings) for good?" in refused.stdout
    assert left(letters) == [1, 2, 3, 4]
    agreed = run("dead-letters", "purge", "--topic", "devices/1/stats", typed="y\n", database_url=letters)
    assert "deleted 2 dead letters" in agreed.stdout
    assert left(letters) == [2, 4]


def test_purge_of_nothing_is_no_fault(letters: str) -> None:
    result = run("dead-letters", "purge", "--yes", "--since", "1h", database_url=letters)
    assert (result.returncode, result.stdout) == (0, "no dead letters\n")
    assert left(letters) == [1, 2, 3, 4]


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


async def test_show_says_which_elements_were_refused_and_why(database_url: str) -> None:
    faults = [ElementFault(3, Reason.OUT_OF_RANGE, "x is 5000"), ElementFault(4, Reason.MALFORMED, "a \x1b")]
    reasons = {Reason.OUT_OF_RANGE: 3, Reason.MALFORMED: 1}
    one = replace(FOUR[0], reasons=reasons, faults=faults, refused=bitmap.of((3, 4, 5, 900)))
    await keep(database_url, [one])
    shown = run("dead-letters", "show", 1, database_url=database_url).stdout.splitlines()
    fields = {line[:13].rstrip(): line[14:] for line in shown[: shown.index("")]}
    assert fields["reason"] == "out_of_range"
    assert fields["detail"] == "x is 5000"
    assert sorted(fields["readings"].split(", ")) == ["1 malformed", "3 out_of_range"]
    assert fields["elements"] == "3-5, 900"
    assert fields["element 3"] == "out_of_range: x is 5000"
    assert fields["element 4"] == "malformed: a \\x1b"


async def test_what_was_not_kept_whole_says_so(database_url: str, database: Database) -> None:
    """In the list, in the details, and at a replay."""
    large = replace(FOUR[0], payload_bytes=8_000_000)
    await keep(database_url, [large])
    omitted = Omitted("devices/1/stats", "counted, not kept", None)
    for _ in range(1234):
        omitted.add(large)
    await count(database, omitted)
    listed = run("dead-letters", "list", database_url=database_url).stdout
    assert "1,234 messages counted, not kept" in listed
    assert listed.splitlines()[-1] == "2 of 2 dead letters (1,235 refused readings)"
    assert (
        "8,000,000 bytes, of which the first 8 were kept"
        in run("dead-letters", "show", 1, database_url=database_url).stdout
    )
    shown = run("dead-letters", "show", 2, database_url=database_url).stdout
    assert "messages      1,234\n" in shown
    assert "payload       9,872,000,000 bytes in total, not kept\n" in shown
    assert run("dead-letters", "replay", database_url=database_url).stdout.splitlines() == [
        "1  cannot be replayed: of its 8,000,000 bytes only the first 8 were kept",
        "2  cannot be replayed: it counts 1,234 messages, whose payloads were not kept",
        "2 of 2 dead letters replayed",
        "2 dead letters not kept whole: left unchanged",
    ]
    assert left(database_url) == [1, 2]
