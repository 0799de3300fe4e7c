"""How many connections the API has, and what the documents say of it."""

from pathlib import Path

from query_api.app import SLOW_READS, STREAMS
from query_api.pools import CONNECTIONS, EXPORTS, SLOW
from query_api.readings.waiting import MAX_WAITING_EACH

ROOT = Path(__file__).parents[2]


def test_the_documents_say_how_many_connections_there_are() -> None:
    assert f"| `devicestat serve` | {CONNECTIONS} |" in (ROOT / "docs" / "operating.md").read_text()


def test_a_place_has_a_connection_and_a_caller_leaves_places_to_others() -> None:
    assert (SLOW_READS.running, STREAMS.running) == (SLOW, EXPORTS)
    for bounds in (SLOW_READS, STREAMS):
        assert bounds.each < bounds.running
        assert bounds.waiting_each < bounds.waiting


def test_the_page_of_the_api_names_the_limits() -> None:
    text = (ROOT / "docs" / "api.md").read_text()
    for bound in (
        f"at most {SLOW_READS.each} slow reads", f"{STREAMS.each} streams", f"{SLOW_READS.waiting_each} slow reads may",
        f"{MAX_WAITING_EACH:,} readings",
    ):  # fmt: skip
        assert bound in text, bound
