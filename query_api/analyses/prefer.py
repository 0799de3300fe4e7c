"""`Prefer: wait=N` (RFC 7240): the client waits for a result instead of polling."""

import re
from collections.abc import Iterable, Mapping
from typing import Annotated

from litestar.datastructures import ResponseHeader
from litestar.params import HeaderParameter

MAX_WAIT_S = 60

_is_seconds = re.compile("[0-9]+", re.ASCII).fullmatch

PreferHeader = Annotated[
    str | None,
    HeaderParameter(
        name="Prefer",
        description=f"wait=N: wait up to N seconds for the result, at most {MAX_WAIT_S} (RFC 7240). "
        "A malformed preference is ignored.",
    ),
]
RESPONSE_HEADERS = [
    ResponseHeader(
        "Preference-Applied",
        value="",
        documentation_only=True,
        description="wait=N: the seconds granted. Absent if none were requested.",
    ),
    ResponseHeader(
        "Vary", value="", documentation_only=True, description="Prefer: the response depends on this header."
    ),
]


def wait_of(headers: Iterable[str]) -> int | None:
    """Return the seconds to wait by the Prefer headers, at most MAX_WAIT_S; None if they request none.

    A malformed preference is ignored, and the first of several waits applies (RFC 7240 section 2).
    """
    for header in headers:
        for preference in _split(header, ","):
            name, _, value = _split(preference, ";")[0].partition("=")
            if name.strip(" \t").lower() == "wait":
                return _seconds(value.strip(" \t"))
    return None


def _split(text: str, separator: str) -> list[str]:
    """Split at the separators outside of quotes (RFC 9110 section 5.6.4), in one pass."""
    parts, begun, quoted, escaped = [], 0, False, False
    for at, character in enumerate(text):
        if escaped:
            escaped = False
        elif character == '"':
            quoted = not quoted
        elif quoted:
            escaped = character == "\\"
        elif character == separator:
            parts.append(text[begun:at])
            begun = at + 1
    return [*parts, text[begun:]]


def _seconds(value: str) -> int | None:
    """RFC 7240 section 4.3: delta-seconds, which may be quoted like any value."""
    digits = value[1:-1] if value[:1] == value[-1:] == '"' else value
    if not _is_seconds(digits):
        return None
    significant = digits.lstrip("0") or "0"
    return MAX_WAIT_S if len(significant) > 3 else min(int(significant), MAX_WAIT_S)


def answer_headers(seconds: int | None) -> Mapping[str, str]:
    """Return the headers that name the applied preference."""
    return {} if seconds is None else {"Preference-Applied": f"wait={seconds}"}
