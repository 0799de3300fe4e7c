"""The tests of the dashboard's pure parts, in Node (tests/dashboard/*.test.js)."""

import re
import subprocess
import sysconfig
from pathlib import Path

import pytest

from query_api.dashboard.assets import FOLDER, without_comments
from tests.waiting import HANG_S

HERE = Path(__file__).parent
NODE = Path(sysconfig.get_path("scripts")) / "node"
SCRIPTS = sorted((FOLDER / "static").rglob("*.js"))


def test_the_pure_parts() -> None:
    files = sorted(map(str, HERE.glob("*.test.js")))
    ran = subprocess.run([NODE, "--test", *files], capture_output=True, text=True, timeout=HANG_S, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    passed = re.search(r"pass (\d+)", ran.stdout)
    assert passed is not None
    assert int(passed[1]) >= len(files)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: str(path.relative_to(FOLDER)))
def test_only_comments_are_removed_from_a_script(script: Path) -> None:
    lines = script.read_text().splitlines()
    served = without_comments(script.read_bytes()).decode().splitlines()
    assert len(served) == len(lines)
    removed = [line.strip() for line, left in zip(lines, served, strict=True) if line != left]
    assert [line for line in removed if not line.startswith(("/**", "*"))] == []


def test_code_beside_a_comment_stays() -> None:
    script = b"/** a */ first();\n/** b\n * c */\nsecond(); /** d */\n  /** e */\nthird(`\n/* f */`);\n"
    assert without_comments(script) == b"/** a */ first();\n\n\nsecond(); /** d */\n\nthird(`\n/* f */`);\n"
