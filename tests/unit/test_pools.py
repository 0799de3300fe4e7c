"""The number of connections of the API, and its documentation."""

from pathlib import Path

from query_api.readings.waiting import WAITING
from query_api.serve.pools import CONNECTIONS, EXPORTS, SLOW
from query_api.serve.tuning import DEFAULT

ROOT = Path(__file__).parents[2]


def test_the_docs_state_the_number_of_connections() -> None:
    assert f"| `devicestat serve` | {CONNECTIONS} |" in (ROOT / "docs" / "operating.md").read_text()


def test_a_place_has_a_connection_and_a_caller_leaves_places_to_others() -> None:
    assert (DEFAULT.slow_reads.running, DEFAULT.streams.running) == (SLOW, EXPORTS)
    for bounds in (DEFAULT.slow_reads, DEFAULT.streams):
        assert bounds.each < bounds.running
        assert bounds.waiting_each < bounds.waiting


def test_the_page_of_the_api_names_the_limits() -> None:
    text = (ROOT / "docs" / "api.md").read_text()
    for bound in (
        f"at most {DEFAULT.slow_reads.each} slow reads", f"{DEFAULT.streams.each} streams",
        f"{DEFAULT.slow_reads.waiting_each} slow reads may",
        f"{WAITING.most_each:,} readings",
    ):  # fmt: skip
        assert bound in text, bound
