"""The lines of the README and of docs/api.md, run from top to bottom, with the answers shown there."""

import asyncio
import json
import operator
import re
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

import pytest

from tests import citus
from tests.command import Up, running_up
from tests.waiting import eventually

ROOT = Path(__file__).parents[2]
TOLD = [ROOT / "README.md", ROOT / "docs" / "api.md"]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
MOMENT = re.compile(r"\d{4}-\d\d-\d\dT[\d:.]+Z")
TOKEN = re.compile(r"(dst_\d+_)[\w-]{43}")
PAUSE = re.compile(r"^sleep \d; ")
"""Repeat the command until the output is as shown; a reader waits."""


def blocks(kind: str) -> list[str]:
    """Return the blocks of the kind, of README and then docs/api.md."""
    return re.findall(rf"```{kind}\n(.*?)```", "".join(page.read_text() for page in TOLD), re.DOTALL)


def story() -> list[tuple[str, str]]:
    """Return the commands of the console blocks, each with its output."""
    parts = re.split(r"^\$ ", "".join(blocks("console")), flags=re.MULTILINE)[1:]
    return [(command, answer.strip()) for command, _, answer in (part.partition("\n") for part in parts)]


def comparable(answer: str) -> object:
    """Return the output without times and tokens, which differ in each run."""
    answer = TOKEN.sub(r"\1…", MOMENT.sub("…", answer)).strip()
    try:
        return json.loads(answer)
    except json.JSONDecodeError:
        return answer


async def answer_of(command: str) -> object:
    process = await asyncio.create_subprocess_shell(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    out, complaint = await process.communicate()
    assert process.returncode == 0, complaint.decode()
    return comparable(out.decode())


async def program(text: str) -> str:
    """Return the output of the Python program."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", text, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    out, complaint = await process.communicate()
    assert process.returncode == 0, complaint.decode()
    return out.decode()


@pytest.fixture
def on_cluster(request: pytest.FixtureRequest) -> dict[str, str]:
    """The setting of `up` for a cluster, if the tests have one; else it starts a PostgreSQL of its own."""
    return {"database_url": request.getfixturevalue("database_url")} if citus.WORKERS else {}


async def test_the_story_and_the_tour_of_the_readme(on_cluster: dict[str, str]) -> None:
    with tempfile.TemporaryDirectory(prefix="ds") as directory:
        async with running_up(Up(Path(directory), **on_cluster)) as up:
            for command, answer in story():
                here = command.replace("127.0.0.1:8000", f"127.0.0.1:{up.http_port}")
                here = here.replace("mosquitto_pub ", f"mosquitto_pub -p {up.mqtt_port} ")
                expected = comparable(answer.replace('"port":1883', f'"port":{up.mqtt_port}'))
                if PAUSE.match(here):
                    await eventually(partial(answer_of, PAUSE.sub("", here)), partial(operator.eq, expected))
                else:
                    assert await answer_of(here) == expected, command
            (tour,), (printed,) = blocks("python"), blocks("text")
            assert await program(tour.replace("127.0.0.1:8000", f"127.0.0.1:{up.http_port}")) == printed
            assert await up.stop() == 0


def test_the_settings_page_names_every_setting() -> None:
    from shared.settings import Settings

    named = set(re.findall(r"`([A-Z][A-Z_]+)`", (ROOT / "docs" / "settings.md").read_text()))
    assert {name.upper() for name in Settings.__struct_fields__} <= named


def anchors(page: Path) -> set[str]:
    """Return the anchors of the page's headings."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize(
    "page", [*PAGES, ROOT / "ARCHITECTURE.md", ROOT / "CONTRIBUTING.md"], ids=lambda page: page.name
)
def test_its_links_lead_somewhere(page: Path) -> None:
    for link, anchor in re.findall(r"\]\((?!https?:)([^)#]*)(?:#([^)]*))?\)", page.read_text()):
        target = page.parent / link if link else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), (link, anchor)


def test_the_index_lists_every_page() -> None:
    index = (ROOT / "docs" / "README.md").read_text()
    assert [page.name for page in (ROOT / "docs").glob("*.md") if f"({page.name})" not in index] == ["README.md"]


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150
