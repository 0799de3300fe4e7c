"""The Authorization header in the form of RFC 6750 section 2.1, and no other."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.access.bearer import bearer_of, is_bearer, showing, shows

TOKEN = "dsk_aaaaaaaa_AZaz09-._~+/=="


@pytest.mark.parametrize("scheme", ["Bearer ", "bearer ", "BEARER  ", "  Bearer "])
def test_the_token_is_read_whatever_the_case_of_the_scheme(scheme: str) -> None:
    assert bearer_of(scheme + TOKEN) == TOKEN
    assert is_bearer(f"{scheme}{TOKEN} ", TOKEN)


@pytest.mark.parametrize(
    "header",
    [
        None, "", "Bearer", "Bearer ", TOKEN, f"Basic {TOKEN}", f"Bearer{TOKEN}", f"Bearer\t{TOKEN}", "Bearer a b",
        f"Bearer {TOKEN}, Bearer {TOKEN}", "Bearer =a", "Bearer a=b", "Bearer ä",
        'Bearer "a"', "Bearer a\n", "Bearer a\0",
    ],
)  # fmt: skip
def test_what_is_of_another_form_shows_nothing(header: str | None) -> None:
    assert bearer_of(header) is None
    assert not is_bearer(header, TOKEN)


@given(st.text())
def test_no_other_text_is_taken_for_the_token(text: str) -> None:
    assert is_bearer(f"Bearer {text}", TOKEN) is (text.strip(" \t") == TOKEN)


def test_what_is_shown_is_read() -> None:
    assert is_bearer(showing(TOKEN)["Authorization"], TOKEN)
    assert showing(None) == {}


def basic(text: str) -> str:
    return "Basic " + base64.b64encode(text.encode()).decode()


def test_a_secret_may_be_the_password_of_any_user() -> None:
    for header in (f"Bearer {TOKEN}", basic(f"devicestat:{TOKEN}"), basic(f":{TOKEN}")):
        assert shows(header, TOKEN)


@pytest.mark.parametrize(
    "header",
    [
        None, "", "Basic", "Basic ", "Basic !", "Basic AAA", f"Basic {TOKEN}", basic(TOKEN), basic(f"{TOKEN}:"),
        basic(f"user:{TOKEN}x"), basic(f"user:x:{TOKEN}"), basic("user:"), basic(f"user:{TOKEN}") + ", x",
    ],
)  # fmt: skip
def test_nothing_else_is_the_secret(header: str | None) -> None:
    assert not shows(header, TOKEN)
