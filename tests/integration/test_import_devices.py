"""`devicestat devices import` against a real API."""

import asyncio
import csv
import stat
import subprocess
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from shared.settings import Settings
from tests.command import arun

Database = psycopg.AsyncConnection[tuple[Any, ...]]


@pytest.fixture
def given(tmp_path: Path) -> Path:
    return tmp_path / "devices.csv"


def is_private(file: Path) -> bool:
    return stat.S_IMODE(file.stat().st_mode) == 0o600


def write(file: Path, *lines: str) -> None:
    file.write_text("".join(f"{line}\n" for line in lines))


async def imported(
    settings: Settings, file: Path, *options: object, typed: str = ""
) -> subprocess.CompletedProcess[str]:
    return await arun("devices", "import", file, *options, typed=typed, http_port=settings.http_port)


def tokens_of(text: str) -> dict[str, str]:
    rows = list(csv.DictReader(text.splitlines()))
    return {row["key"]: row["token"] for row in rows}


async def names(database: Database) -> dict[str, str]:
    return dict(await (await database.execute("SELECT key, name FROM devices")).fetchall())


async def test_devices_are_registered_and_their_tokens_written_to_a_private_file(
    api: httpx.AsyncClient, api_settings: Settings, database: Database, given: Path, tmp_path: Path
) -> None:
    write(given, "key,name", *(f"meter-{n},Meter {n}" for n in range(2_500)))
    tokens = tmp_path / "tokens.csv"
    result = await imported(api_settings, given, "--tokens", tokens)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "registered 2,500 devices\n")
    assert is_private(tokens)
    assert len(set(tokens_of(tokens.read_text()).values())) == 2_500
    assert await names(database) == {f"meter-{n}": f"Meter {n}" for n in range(2_500)}
    row = next(csv.DictReader(tokens.read_text().splitlines()))
    bearer = {"Authorization": f"Bearer {row['token']}"}
    reading = {"device_id": int(row["id"]), "x": 1, "y": 2, "z": 3}
    assert (await api.post("/stats", json=reading, headers=bearer)).status_code == 201


async def test_it_can_be_run_again(
    api: httpx.AsyncClient, api_settings: Settings, database: Database, given: Path, tmp_path: Path
) -> None:
    tokens = tmp_path / "tokens.csv"
    write(given, "key,name", "a,One")
    await imported(api_settings, given, "--tokens", tokens)
    first = tokens.read_text()
    write(given, "key,name", "a,Other", "b,Two")
    result = await imported(api_settings, given, "--tokens", tokens)
    assert result.returncode == 0
    assert result.stderr == "registered 1 device; 1 device skipped, already registered\n"
    assert tokens.read_text().startswith(first)
    assert set(tokens_of(tokens.read_text())) == {"a", "b"}
    assert await names(database) == {"a": "One", "b": "Two"}


async def test_standard_input_and_output(api: httpx.AsyncClient, api_settings: Settings, database: Database) -> None:
    result = await imported(api_settings, Path("-"), typed='key,name\r\na,"Boiler, north"\r\n')
    assert (result.returncode, result.stderr) == (0, "registered 1 device\n")
    assert set(tokens_of(result.stdout)) == {"a"}
    assert await names(database) == {"a": "Boiler, north"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("key,name\na,One\nb c,Two\n,Three\nd,\na,Five\ne\n", ["line 3: key 'b c'", "line 4: key ''", "line 5: name ''",
                                                                   "line 6: key 'a' is also in line 2",
                                                                   "line 7: it has 1 value"]),
        ("key,name\na,One\ndevicestat-probe,Two\n", ["line 3: key 'devicestat-probe' is reserved"]),
        ("key;name\na;One\n", ["line 1: 'key;name': expected the column names key,name before the devices"]),
        ("a,One\n", ["line 1: 'a,one': expected the column names key,name"]),
        ("", ["devices.csv is empty: expected the column names key,name"]),
        ("\ufeff", ["devices.csv is empty"]),
        ("key,name\na,Boiler, north\n", ["line 2: it has 3 values", "quote a name that has a comma"]),
        ('key,name\na,"One\n', ["line 3: unexpected end of data", "unmatched quotation mark"]),
        ('key,name\na,"One\nb,"Two"\n', ["line 3: ',' expected", "This line, or one before it, has an"]),
        ("key,name\n" + "a b,One\n" * 30, ["30 invalid lines", "line 21", "and 10 more"]),
    ],
)  # fmt: skip
async def test_wrong_lines_are_named_and_nothing_is_registered(
    text: str, said: list[str], api: httpx.AsyncClient, api_settings: Settings, database: Database, given: Path
) -> None:
    write(given, text)
    result = await imported(api_settings, given)
    assert (result.returncode, result.stdout) == (1, "")
    assert all(part in result.stderr for part in said), result.stderr
    assert await names(database) == {}


async def test_what_is_not_utf_8_is_refused(api_settings: Settings, given: Path) -> None:
    await asyncio.to_thread(given.write_bytes, "key,name\na,Kühler\n".encode("latin-1"))
    result = await imported(api_settings, given)
    assert (result.returncode, "is not UTF-8" in result.stderr) == (1, True)


async def test_a_file_that_others_can_read_gets_no_tokens(
    api: httpx.AsyncClient, api_settings: Settings, database: Database, given: Path, tmp_path: Path
) -> None:
    write(given, "key,name", "a,One")
    tokens = tmp_path / "tokens.csv"
    await asyncio.to_thread(tokens.touch, 0o644)
    result = await imported(api_settings, given, "--tokens", tokens)
    assert (result.returncode, "chmod 600" in result.stderr) == (1, True)
    assert await names(database) == {}


async def test_an_api_that_does_not_answer_is_named(api_settings: Settings, given: Path) -> None:
    write(given, "key,name", "a,One")
    result = await imported(api_settings, given)
    assert result.returncode == 1
    assert "does not respond" in result.stderr
    assert "may be registered" not in result.stderr


async def test_an_answer_that_does_not_come_leaves_open_what_is_registered(api_settings: Settings, given: Path) -> None:
    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.close()

    write(given, "key,name", "a,One")
    async with await asyncio.start_server(hang_up, "127.0.0.1", api_settings.http_port):
        result = await imported(api_settings, given)
    assert result.returncode == 1
    assert "lines 2 to 2 may be registered or not" in result.stderr
