"""Text that PostgreSQL can store: escaped text can be restored, and other text is unchanged."""

from hypothesis import given
from hypothesis import strategies as st

from shared.postgres.storable import ascii_only, original, storable, storable_bytes

_some = st.binary(max_size=12) | st.text(max_size=6).map(str.encode)


def _can_be_stored(text: str) -> bool:
    return "\0" not in text and text.encode().decode() == text


@given(_some.filter(lambda data: b"#" not in data))
def test_what_is_escaped_can_be_had_back(data: bytes) -> None:
    """A topic has no # (MQTT-3.3.2-2)."""
    assert original(storable_bytes(data)) == data
    assert _can_be_stored(storable_bytes(data))


@given(_some)
def test_escaping_once_is_enough(data: bytes) -> None:
    once = storable_bytes(data)
    assert storable(once) == once


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0")))
def test_text_that_can_be_stored_stays_as_it_is(text: str) -> None:
    assert storable(text) == text


@given(st.text(max_size=12))
def test_any_text_can_be_stored(text: str) -> None:
    assert _can_be_stored(storable(text))
    assert ascii_only(text).isascii()


def test_each_byte_that_cannot_be_stored_is_shown() -> None:
    assert storable_bytes(b"devices/\xff\0\xc3\xa9/stats") == "devices/#FF#00é/stats"
    assert storable("a\0#b") == "a#00#23b"
    assert original("a#00#23b") == b"a\0#b"
    assert ascii_only("Köln#\n") == "K#C3#B6ln#23#0A"
