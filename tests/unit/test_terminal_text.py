"""Output for a terminal, and display of payloads."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from deploy.dead_letters.display import DETAIL_SHOWN, TOPIC_SHOWN, hexdump, table, whole
from deploy.terminal import shortened
from shared.dead_letters.letters import Letter
from shared.status.words import counted, printable


def letter(payload: bytes, topic: str = "devices/1/stats") -> Letter:
    return Letter(
        id=5,
        received_at=datetime(2026, 1, 31, 12, tzinfo=UTC),
        topic=topic,
        content_type=None,
        payload=payload,
        payload_bytes=len(payload),
        reason="malformed",
        detail="no JSON",
        reasons={"malformed": 1},
    )


@given(st.text())
def test_nothing_that_a_terminal_obeys_is_printed(text: str) -> None:
    assert all(c.isprintable() or c in "\n\t" for c in printable(text))


def test_an_escape_sequence_is_shown_and_not_obeyed() -> None:
    assert printable("a\x1b[31mb\tü\n") == "a\\x1b[31mb\tü\n"


def test_a_text_payload_is_shown_whole() -> None:
    payload = '{"x": 1, "y": "ü"}\n' * 1000
    assert whole(letter(payload.encode())).endswith(f"\n\n{payload}")


@pytest.mark.parametrize("payload", [b"\x83\xa1x\x01", b"\x1b[2J", b"{}\x00", "\u202e".encode()])
def test_any_other_payload_is_a_hexdump(payload: bytes) -> None:
    assert whole(letter(payload)).endswith(f"\n\n{hexdump(payload)}")


def test_the_hexdump_is_readable() -> None:
    assert hexdump(bytes(range(0x3C, 0x4D))) == (
        "00000000  3c 3d 3e 3f 40 41 42 43 44 45 46 47 48 49 4a 4b  |<=>?@ABCDEFGHIJK|\n"
        "00000010  4c                                               |L|"
    )


def test_an_absurd_topic_stays_on_its_line() -> None:
    assert "topic         devices/\\x1b]0;x\\x07/stats" in whole(letter(b"{}", "devices/\x1b]0;x\x07/stats"))


def test_a_list_has_a_line_for_each_however_long_its_topic() -> None:
    console = Console(width=10_000)
    with console.capture() as captured:
        console.print(table([letter(b"{}", "devices/" + "a" * 60_000)]))
    assert len(captured.get().splitlines()) == 2
    assert max(map(len, captured.get().splitlines())) < TOPIC_SHOWN + DETAIL_SHOWN + 100
    assert shortened("abcd", 4) == "abcd"
    assert shortened("abcde", 4) == "abc…"


def test_one_is_not_many() -> None:
    assert [counted(number, "byte") for number in (0, 1, 2000)] == ["0 bytes", "1 byte", "2,000 bytes"]
