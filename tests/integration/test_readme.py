"""The README's story and its tour, told end to end: their lines are run as they stand, and answered as it says."""

import asyncio
import json
import operator
import re
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

from tests.command import Up, running_up
from tests.waiting import eventually

README = Path(__file__).parents[2] / "README.md"
MOMENT = re.compile(r"\d{4}-\d\d-\d\dT[\d:.]+Z")
TOKEN = re.compile(r"(dst_\d+_)[\w-]{43}")
PAUSE = re.compile(r"^sleep \d; ")
"""A person waits a little where the test asks again until the answer is there."""


def blocks(kind: str) -> list[str]:
    """The README's blocks of the kind."""
    return re.findall(rf"```{kind}\n(.*?)```", README.read_text(), re.DOTALL)


def story() -> list[tuple[str, str]]:
    """The commands of the console blocks, each with the answer shown below it."""
    parts = re.split(r"^\$ ", "".join(blocks("console")), flags=re.MULTILINE)[1:]
    return [(command, answer.strip()) for command, _, answer in (part.partition("\n") for part in parts)]


def comparable(answer: str) -> object:
    """The answer without the moments and the tokens, which differ from run to run."""
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
    """What the Python program prints."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", text, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    out, complaint = await process.communicate()
    assert process.returncode == 0, complaint.decode()
    return out.decode()


async def test_the_story_and_the_tour_of_the_readme() -> None:
    with tempfile.TemporaryDirectory(prefix="ds") as directory:
        async with running_up(Up(Path(directory))) as up:
            for command, answer in story():
                here = command.replace("127.0.0.1:8000", f"127.0.0.1:{up.http_port}")
                here = here.replace("mosquitto_pub ", f"mosquitto_pub -p {up.mqtt_port} ")
                expected = comparable(answer)
                if PAUSE.match(here):
                    await eventually(partial(answer_of, PAUSE.sub("", here)), partial(operator.eq, expected))
                else:
                    assert await answer_of(here) == expected, command
            (tour,), (printed,) = blocks("python"), blocks("text")
            assert await program(tour.replace("127.0.0.1:8000", f"127.0.0.1:{up.http_port}")) == printed
            assert await up.stop() == 0


def test_the_readme_names_every_setting() -> None:
    from shared.settings import Settings

    named = set(re.findall(r"`([A-Z][A-Z_]+)`", README.read_text()))
    assert {name.upper() for name in Settings.__struct_fields__} <= named


def test_the_links_of_the_readme_lead_somewhere() -> None:
    links = re.findall(r"\]\(([^)#]+)\)", README.read_text())
    assert links
    assert [link for link in links if not (README.parent / link).exists()] == []
