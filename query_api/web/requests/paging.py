"""Keyset pagination: each page starts after the key of the last row of the previous page.

A cursor has that key and identifies the list. It stays valid while rows are added or deleted, and the last page costs
no more than the first.
"""

import base64
import binascii
from collections.abc import Callable, Sequence
from typing import Annotated, TypeVar
from urllib.parse import quote, urlencode

import msgspec
from litestar import Response
from litestar.datastructures import ResponseHeader
from litestar.params import QueryParameter

from query_api.errors import Fault
from query_api.web.answers import problems
from query_api.web.answers.problems import Refused
from query_api.web.requests.bodies import JsonRequest

MAX_LIMIT = 10_000

Limit = Annotated[int, QueryParameter(ge=1, le=MAX_LIMIT, description="Maximum number of items on a page.")]
Cursor = Annotated[
    str | None,
    QueryParameter(
        schema_extra={"pattern": "^[A-Za-z0-9_-]+$"},  # for the document: decode checks it
        description="X-Next-Cursor of the previous page. Default: the first page.",
    ),
]

HEADERS = [
    ResponseHeader(
        "X-Next-Cursor",
        value="",
        description="Cursor of the next page. Absent on the last page.",
        documentation_only=True,
    ),
    ResponseHeader(
        "Link",
        value="",
        description='URL of the next page, with rel="next". Absent on the last page.',
        documentation_only=True,
    ),
]

Row = TypeVar("Row")
Key = TypeVar("Key", bound=msgspec.Struct)


def encode(key: msgspec.Struct) -> str:
    """Return the key as an opaque cursor, safe in a URL."""
    return base64.urlsafe_b64encode(msgspec.msgpack.encode(key)).rstrip(b"=").decode()


def decode(cursor: str | None, kind: type[Key], **listed: object) -> Key | None:
    """Return the key in the cursor; None without a cursor. Raises Refused for a cursor of another list.

    `listed`: fields of the key that name the list, with the values of this list.
    """
    if cursor is None:
        return None
    try:
        padded = cursor.encode() + b"=" * (-len(cursor) % 4)
        key = msgspec.msgpack.decode(base64.b64decode(padded, altchars=b"-_", validate=True), type=kind)
    except (msgspec.DecodeError, binascii.Error, RecursionError, ValueError) as error:
        raise _foreign() from error
    if any(getattr(key, name) != value for name, value in listed.items()):
        raise _foreign()
    return key


def _foreign() -> Refused:
    fault = Fault(
        "cursor",
        "not a cursor of this list: copy it from X-Next-Cursor or Link, with the same path and parameters",
    )
    return Refused(problems.BAD_CURSOR, f"{fault.field}: {fault.detail}", [fault])


def page(
    request: JsonRequest, found: Sequence[Row], limit: int, key: Callable[[Row], msgspec.Struct]
) -> Response[Sequence[Row]]:
    """Return a page with the first `limit` rows of those found, and the address of the next page if there are more.

    `key` returns the key of a row, from which the next page continues.
    """
    return Response(found[:limit], headers=next_page(request, found, limit, key))


def next_page(
    request: JsonRequest, found: Sequence[Row], limit: int, key: Callable[[Row], msgspec.Struct]
) -> dict[str, str]:
    """Return the headers with the address of the next page; none if there are no more than `limit` rows."""
    if len(found) <= limit:
        return {}
    cursor = encode(key(found[limit - 1]))
    query = [(name, value) for name, value in request.query_params.multi_items() if name != "cursor"]
    address = f"{quote(request.scope['path'])}?{urlencode([*query, ('cursor', cursor)])}"
    return {"X-Next-Cursor": cursor, "Link": f'<{address}>; rel="next"'}
