"""Prefer: wait=N (RFC 7240)."""

import pytest

from query_api.analyses.prefer import MAX_WAIT_S, wait_of


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        (["wait=10"], 10), (["respond-async, wait=10"], 10), (['Wait = "5" ; x=y'], 5), (["a", "b, wait=3"], 3),
        (["wait=0"], 0), (["wait=007"], 7), (["wait=61"], MAX_WAIT_S), (["wait=" + "9" * 5000], MAX_WAIT_S),
        (["wait=1, wait=2"], 1), (["wait=1", "wait=2"], 1), (['foo="a, wait=3", wait=4'], 4),
        (['foo="\\", wait=1", wait=2'], 2),
        ([], None), ([""], None), (["wait"], None), (["wait="], None), (["wait=-1"], None), (["wait=1.5"], None),
        (["wait=x, wait=2"], None), (["wait=१"], None), (['wait="'], None), (['foo="open, wait=3'], None),
        (["waiting=3"], None), (["; wait=3"], None),
    ],
)  # fmt: skip
def test_seconds(headers: list[str], seconds: int | None) -> None:
    assert wait_of(headers) == seconds
