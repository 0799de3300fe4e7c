"""Routes of access keys: create, list, get, rotate, revoke.

`shared/access/keys.py` does the work, as for `devicestat keys`.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated

import msgspec
from litestar import Response, delete, get, post
from litestar.datastructures import ResponseHeader
from litestar.params import JSONBody, PathParameter, QueryParameter
from litestar.status_codes import HTTP_200_OK

from query_api.access.rules import Permission, Principal
from query_api.errors import Fault, displayed
from query_api.ids import MAX_ID
from query_api.web.answers import problems
from query_api.web.answers.problems import AnyRequest, Refused, documented, invalid
from query_api.web.dependencies import Database, actor_of
from query_api.web.requests import paging
from query_api.web.requests.bodies import JsonRequest
from query_api.web.requests.times import in_utc
from query_api.web.resource import Resource
from shared.access import keys
from shared.access.credentials import NewKey, Role
from shared.access.keys import NAME_RULE, KeyState, is_name
from shared.event_loop.parts import AT_ONCE_SLOW, mapped

MAX_GRACE_S = 366 * 86_400
Prefix = Annotated[
    str,
    PathParameter(
        description="What identifies the key: dsk_ and the eight characters after it.",
        schema_extra={"examples": ["dsk_k3v9q2xm"]},
    ),
]
_EXPIRES_RULE = "a time in the future such as 2027-01-31T12:00:00Z, or null"
_ExpiresAt = Annotated[
    datetime,
    msgspec.Meta(
        description="When the key expires: RFC 3339, in UTC without an offset; null: never.",
        extra={"takes": _EXPIRES_RULE},
        examples=["2027-01-31T12:00:00Z"],
    ),
]


class NewAccessKey(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A key to create."""

    role: Annotated[
        Role,
        msgspec.Meta(
            description="admin: everything. analyst: read, and queue analyses. writer: store readings.",
            extra={"takes": "admin, analyst or writer"},
            examples=["analyst"],
        ),
    ]
    name: Annotated[
        str,
        msgspec.Meta(
            max_length=keys.MAX_NAME_LENGTH,
            description=f"Owner or purpose: {NAME_RULE}.",
            extra={"takes": NAME_RULE},
            examples=["Ada"],
        ),
    ] = ""
    expires_at: _ExpiresAt | None = None


class KeyReplacement(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How to replace a key."""

    expires_at: (
        Annotated[
            datetime,
            msgspec.Meta(
                description="When the new key expires. null: when the old one would have.",
                extra={"takes": _EXPIRES_RULE},
                examples=["2027-01-31T12:00:00Z"],
            ),
        ]
        | None
    ) = None
    grace_s: (
        Annotated[
            int,
            msgspec.Meta(
                ge=1,
                le=MAX_GRACE_S,
                description="Seconds for which the old key stays valid. null: it is revoked immediately.",
                extra={"takes": f"a whole number of seconds from 1 to {MAX_GRACE_S}, or null"},
                examples=[3600],
            ),
        ]
        | None
    ) = None


class Key(msgspec.Struct, frozen=True, kw_only=True):
    """An access key, without its secret."""

    prefix: Annotated[str, msgspec.Meta(description="What identifies the key.", examples=["dsk_k3v9q2xm"])]
    role: Annotated[Role, msgspec.Meta(description="What the key may do.", examples=["analyst"])]
    name: Annotated[str, msgspec.Meta(description="Owner or purpose.", examples=["Ada"])]
    state: Annotated[KeyState, msgspec.Meta(description="valid, expired or revoked.")]
    created_at: Annotated[datetime, msgspec.Meta(description="Time of creation.")]
    expires_at: Annotated[datetime | None, msgspec.Meta(description="When it expires; null: never.")]
    revoked_at: Annotated[datetime | None, msgspec.Meta(description="When it was revoked; null if it was not.")]
    last_used_at: Annotated[
        datetime | None,
        msgspec.Meta(description="When it was used last, to some 15 seconds; null if it never was."),
    ]


class IssuedKey(Key, frozen=True, kw_only=True):
    """A new key, with its secret."""

    key: Annotated[
        str,
        msgspec.Meta(
            description="The key itself. It is in this response only, and not stored.",
            examples=["dsk_k3v9q2xm_4fXzN0aYw7UuQ1mB8sE2tRkC5dJ6vL9pHiGoZxWyTnA"],
        ),
    ]

    def __repr__(self) -> str:
        return f"IssuedKey({self.prefix})"


class _KeysBefore(msgspec.Struct, frozen=True, array_like=True, tag="keys"):
    state: KeyState | None
    id: Annotated[int, msgspec.Meta(ge=0, le=MAX_ID)]


_NO_STORE = ResponseHeader("Cache-Control", value="no-store", description="A secret cannot be cached.")
_LOCATION = ResponseHeader("Location", value="", description="The path of the key.", documentation_only=True)


@post(
    "/",
    permission=Permission.ADMINISTER,
    summary="Create a key",
    response_description="Created.",
    response_headers=[_NO_STORE, _LOCATION],
    responses=documented(problems.TOO_LARGE, problems.UNSUPPORTED_MEDIA_TYPE, problems.INVALID_VALUE),
)
async def create_key(request: AnyRequest, data: JSONBody[NewAccessKey], database: Database) -> Response[IssuedKey]:
    """The key is shown only in this response: store it like a password."""
    expires_at = _expiry(data.expires_at)
    if not is_name(data.name):
        raise invalid(Fault("name", f"expected {NAME_RULE}, got {displayed(data.name)}"))
    async with database.connection() as connection, connection.transaction():
        new = await keys.create(connection, actor_of(request), data.role, data.name, expires_at)
        return _issued(new, await keys.one(connection, new.prefix))


def _expiry(given: datetime | None) -> datetime | None:
    """Return the time in UTC. Raises Refused if it is not in the future."""
    if given is None:
        return None
    try:
        moment = in_utc(given)
    except ValueError as error:
        raise invalid(Fault("expires_at", str(error))) from None
    if moment <= datetime.now(UTC):
        raise invalid(Fault("expires_at", f"{moment.isoformat()} is in the past: the key would be invalid"))
    return moment


def _issued(new: NewKey, key: keys.AccessKey) -> Response[IssuedKey]:
    issued = msgspec.convert({**msgspec.structs.asdict(key), "key": new.text}, IssuedKey)
    return Response(issued, headers={"Location": f"/keys/{new.prefix}"})


def _shown(key: keys.AccessKey) -> Key:
    return msgspec.convert(key, Key, from_attributes=True)


@get(
    "/",
    permission=Permission.ADMINISTER,
    summary="List keys",
    response_description="A page of keys.",
    response_headers=paging.HEADERS,
    responses=documented(problems.BAD_CURSOR, problems.INVALID_VALUE),
)
async def list_keys(
    request: JsonRequest,
    database: Database,
    in_state: Annotated[  # Litestar reserves `state`
        KeyState | None, QueryParameter(name="state", description="Return keys in this state.")
    ] = None,
    limit: paging.Limit = 100,
    cursor: paging.Cursor = None,
) -> Response[Sequence[Key]]:
    """Keys by their prefixes, newest first. A key is deleted 400 days after it was revoked or has expired."""
    before = paging.decode(cursor, _KeysBefore, state=in_state)
    async with database.connection() as connection:
        found = await keys.select(connection, in_state, before.id if before else MAX_ID, limit + 1)
    ids = {key.prefix: key.id for key in found}
    shown = await mapped(found, _shown, AT_ONCE_SLOW)
    return paging.page(request, shown, limit, lambda last: _KeysBefore(in_state, ids[last.prefix]))


@get(
    "/{prefix:str}",
    permission=Permission.ADMINISTER,
    summary="Get a key",
    response_description="The key.",
    responses=documented(problems.NOT_FOUND, problems.INVALID_VALUE),
)
async def show_key(prefix: Prefix, database: Database) -> Key:
    """The key without its secret, which is not stored."""
    _require_prefix(prefix)
    async with database.connection() as connection:
        return _shown(await keys.one(connection, prefix))


def _require_prefix(text: str) -> None:
    """Raise Refused for what no key has as its prefix. The response does not repeat it: it may be a whole key."""
    if not keys.is_prefix(text):
        raise Refused(
            problems.NOT_FOUND, "a key is identified by its prefix, such as dsk_k3v9q2xm: GET /keys lists them"
        )


@delete(
    "/{prefix:str}",
    permission=Permission.ADMINISTER,
    status_code=HTTP_200_OK,
    summary="Revoke a key",
    response_description="The revoked key.",
    responses=documented(problems.NOT_FOUND, problems.OWN_KEY, problems.INVALID_VALUE),
)
async def revoke_key(request: AnyRequest, prefix: Prefix, database: Database) -> Key:
    """Every process refuses the key, and its sessions, within a second. The key of the request cannot be revoked."""
    _require_prefix(prefix)
    principal: Principal = request.auth
    if principal.key_id is not None and principal.name == prefix:
        raise Refused(problems.OWN_KEY, f"the request was made with the key {prefix}. {_OWN_ADVICE}")
    async with database.connection() as connection, connection.transaction():
        await keys.revoke(connection, actor_of(request), prefix)
        return _shown(await keys.one(connection, prefix))


_OWN_ADVICE = "Rotate it, or revoke it with another admin key or with `devicestat keys revoke`."


@post(
    "/{prefix:str}/rotate",
    permission=Permission.ADMINISTER,
    summary="Rotate a key",
    response_description="The new key.",
    response_headers=[_NO_STORE, _LOCATION],
    responses=documented(
        problems.NOT_FOUND,
        problems.KEY_ENDED,
        problems.TOO_LARGE,
        problems.UNSUPPORTED_MEDIA_TYPE,
        problems.INVALID_VALUE,
    ),
)
async def rotate_key(
    request: AnyRequest, prefix: Prefix, data: JSONBody[KeyReplacement], database: Database
) -> Response[IssuedKey]:
    """Replace a key by a new one with the same role and name. The new key is shown only in this response.

    The old key, and its sessions, end immediately or after `grace_s`.
    """
    _require_prefix(prefix)
    expires_at = _expiry(data.expires_at)
    grace = None if data.grace_s is None else timedelta(seconds=data.grace_s)
    async with database.connection() as connection, connection.transaction():
        new = await keys.rotate(connection, actor_of(request), prefix, expires_at=expires_at, grace=grace)
        return _issued(new, await keys.one(connection, new.prefix))


router = Resource("/keys", route_handlers=[create_key, list_keys, show_key, revoke_key, rotate_key], tags=["access"])
