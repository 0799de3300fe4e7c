"""Cursors: opaque, safe in a URL, and valid for their list only."""

import string

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from query_api.readings.listing import _ReadingsAfter
from query_api.web.answers.problems import BAD_CURSOR, Refused
from query_api.web.requests import paging

URL_SAFE = set(string.ascii_letters + string.digits + "-_")
axis = st.floats(-1000, 1000)
keys = st.builds(
    _ReadingsAfter, st.integers(1, 2**63 - 1), st.sampled_from(["asc", "desc"]), st.integers(0, 2**52), axis, axis, axis
)


class _Other(msgspec.Struct, frozen=True, array_like=True, tag="other"):
    id: int


@given(keys)
def test_a_key_survives_its_cursor(key: _ReadingsAfter) -> None:
    cursor = paging.encode(key)
    assert set(cursor) <= URL_SAFE
    assert paging.decode(cursor, _ReadingsAfter) == key


@given(keys)
def test_a_key_of_another_list_is_refused(key: _ReadingsAfter) -> None:
    with pytest.raises(Refused) as raised:
        paging.decode(paging.encode(key), _Other)
    assert raised.value.problem is BAD_CURSOR


@given(st.text(max_size=80) | st.binary(max_size=60).map(lambda raw: paging.encode(_Raw(raw))))
def test_any_text_is_a_key_or_refused(text: str) -> None:
    with pytest.raises(Refused) as raised:
        paging.decode(text, _ReadingsAfter)
    assert raised.value.problem is BAD_CURSOR


class _Raw(msgspec.Struct, frozen=True, array_like=True):
    bytes: bytes


def test_no_cursor_is_no_key() -> None:
    assert paging.decode(None, _Other) is None
