"""Which of the types that we have an Accept header asks for (RFC 9110 section 12.5.1)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from query_api.readings.formats.negotiation import ALL, best

JSON, CSV, NDJSON, ARROW, PARQUET, *_ = [form.media_type for form in ALL]
BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8"
CASES = [
    ("", JSON), ("*/*", JSON), (" , ", JSON), (BROWSER, JSON), ("application/*", JSON), ("text/*", CSV),
    ("text/csv", CSV), ("Text/CSV; charset=utf-8", CSV), ("text/csv;q=0.1, application/json;q=0.2", JSON),
    ("text/csv;q=0.1, application/x-ndjson;q=0.1", CSV), ("application/json;q=0, */*", CSV),
    ("application/x-ndjson;q=0.5, */*;q=0.1", NDJSON), ("application/json;q=0", None), ("text/csv;q=0", None),
    ("*/*;q=0", None), ("text/html, *; q=.2", JSON), ("image/png", None),
    ("image/*, text/html", None), ("nonsense", JSON), ("*", JSON),
    (f"{ARROW}, application/json;q=0.9", ARROW), (PARQUET, PARQUET), ("text/csv;q=high", CSV),
    ("text/csv;q=1e999", CSV), ("text/csv;q=nan", CSV), ("text/csv;q=-1", CSV),
    ("*/*;q=0.1, text/*;q=0, application/json;q=0", NDJSON),
]  # fmt: skip


@pytest.mark.parametrize(("accept", "expected"), CASES)
def test_the_best_type(accept: str, expected: str | None) -> None:
    found = best(accept, ALL)
    assert (found and found.media_type) == expected


@given(st.text(st.characters(max_codepoint=255), max_size=60))
def test_nothing_that_a_header_can_hold_breaks_it(accept: str) -> None:
    assert best(accept, ALL) in (*ALL, None)
