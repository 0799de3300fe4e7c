"""The page of guarantees names the test that holds each promise: those tests are there."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
NAMED = re.compile(r"`(tests/\w+/\w+\.py)?(?:::(\w+))?`")


def test_the_tests_that_it_names_are_there() -> None:
    named = [
        match.groups() for match in NAMED.finditer((ROOT / "docs" / "guarantees.md").read_text()) if any(match.groups())
    ]
    assert len(named) > 10
    path = ""
    for file, name in named:
        path = file or path
        source = (ROOT / path).read_text()
        assert name is None or re.search(rf"^(async def {name}\(|def {name}\(|{name} = )", source, re.MULTILINE), (
            path,
            name,
        )
