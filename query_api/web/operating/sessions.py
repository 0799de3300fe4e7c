"""Routes of the session: sign in with a key, get the own session, sign out (ADR 45)."""

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any

import msgspec
from litestar import Response, delete, get, post
from litestar.datastructures import Cookie, ResponseHeader
from litestar.di import NamedDependency
from litestar.openapi.spec import OpenAPIResponse, Operation
from litestar.params import JSONBody, SkipValidation

from query_api.access.keyring import Keyring
from query_api.access.pages import page_of
from query_api.access.rules import ANYBODY, Permission, Principal, permissions_of
from query_api.access.sessions import sign_in, sign_out
from query_api.access.shown import PLAIN_COOKIE, SECURE_COOKIE, cookies
from query_api.web.answers import problems
from query_api.web.answers.problems import NO_KEY, AnyRequest, Refused, documented
from query_api.web.dependencies import Database, actor_of
from query_api.web.gate import foreign_page, unauthenticated
from query_api.web.limits.callers import network_of
from query_api.web.operating.sign_ins import SignIns
from query_api.web.resource import Resource
from shared.access.credentials import GivenToken, read
from shared.postgres.connections import Connection, Pool

_Keyring = NamedDependency[SkipValidation[Keyring | None]]
MOST_COOKIES = 4
"""Sessions that one request can end. A browser has one; a program can send a thousand."""
_SET_COOKIE = ResponseHeader("Set-Cookie", value="", description="The session.", documentation_only=True)


class Means(StrEnum):
    """How the request was authenticated."""

    SESSION = "session"
    KEY = "key"
    TOKEN = "token"  # noqa: S105  # a device's token as a means
    NOTHING = "nothing"
    """AUTH is off."""


class SignIn(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The key to sign in with."""

    # Without a pattern: an error would repeat the value, which may be a secret.
    key: Annotated[
        str,
        msgspec.Meta(
            description="An access key, of any role. A device's token cannot sign in.",
            extra={"takes": "a key of `devicestat keys create`"},
            examples=["dsk_k3v9q2xm_4fXzN0aYw7UuQ1mB8sE2tRkC5dJ6vL9pHiGoZxWyTnA"],
        ),
    ]

    def __repr__(self) -> str:
        return "SignIn(…)"


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """Who the caller is, and what it may do."""

    by: Annotated[
        Means,
        msgspec.Meta(
            description="How the request was authenticated: by a session, a key or a device's token; nothing: AUTH is "
            "off, and every client may do everything."
        ),
    ]
    role: Annotated[
        str, msgspec.Meta(description="admin, analyst or writer; device for a device's token.", examples=["analyst"])
    ]
    prefix: Annotated[
        str | None, msgspec.Meta(description="What identifies the key; null without one.", examples=["dsk_k3v9q2xm"])
    ]
    name: Annotated[str | None, msgspec.Meta(description="The key's name; null without a key.", examples=["Ada"])]
    device_id: Annotated[int | None, msgspec.Meta(description="The device of a token; null without one.")]
    expires_at: Annotated[
        datetime | None,
        msgspec.Meta(
            description="When the session ends or the key expires; null if it does not. A session also ends with its "
            "key, and after 24 hours without a request."
        ),
    ]
    may: Annotated[
        list[Permission],
        msgspec.Meta(
            description="The permissions: read, queue (analyses, queued and scheduled), store (readings), administer "
            "(devices, keys, dead letters, the audit log), metrics.",
            examples=[["read", "queue", "metrics"]],
        ),
    ]


@post(
    "/",
    permission=Permission.PUBLIC,
    security=NO_KEY,
    summary="Sign in",
    response_description="Signed in.",
    response_headers=[_SET_COOKIE],
    responses=documented(
        problems.INSECURE_CONNECTION,
        problems.NOTHING_TO_SIGN_IN_TO,
        problems.TOO_LARGE,
        problems.UNSUPPORTED_MEDIA_TYPE,
        problems.INVALID_VALUE,
    ),
)
async def create_session(
    request: AnyRequest,
    data: JSONBody[SignIn],
    database: Database,
    keyring: _Keyring,
    sign_ins: NamedDependency[SkipValidation[SignIns]],
) -> Response[Session]:
    """The response sets a cookie that scripts cannot read. The browser sends it with requests of this service's pages.

    Requires https or, on the machine itself, http on loopback. A session of the browser from before ends. The new one
    lasts seven days, and at most as long as the key. It ends within a second of the key's revocation, and after 24
    hours without a request. An address from which twenty attempts a
    minute were refused has to wait.
    """
    if keyring is None:
        raise Refused(problems.NOTHING_TO_SIGN_IN_TO, problems.NOTHING_TO_SIGN_IN_TO.description)
    name, address = _cookie_of(request), actor_of(request).origin
    text = data.key.strip()
    sign_ins.require_place(network_of(address), text)
    principal = await keyring.find(text)
    if principal is None or principal.key_id is None:
        async with database.connection() as connection:
            await sign_ins.record_refusal(connection, text, network_of(address))
        raise _refused(text)
    await _end_sessions(request, database, keyring)
    async with database.connection() as connection:
        signed_in = await sign_in(connection, principal, address, secure=name == SECURE_COOKIE)
        if signed_in is None:
            raise _refused(text)
        session = await _described(connection, principal, signed_in.expires_at)
    sign_ins.note_success(network_of(address), text)
    lasts = int((signed_in.expires_at - datetime.now(UTC)).total_seconds())
    return Response(session, cookies=[_cookie(name, signed_in.text, max(lasts, 1))])


def _cookie_of(request: AnyRequest) -> str:
    """Return the name of the cookie for the request's page. Raises Refused for a foreign page, and over plain http."""
    page = page_of(request.scope["headers"], request.scope["scheme"])
    if not page.is_own and not page.is_none:
        raise foreign_page(page)
    if page.cookie is None:
        raise Refused(problems.INSECURE_CONNECTION, problems.INSECURE_CONNECTION.description)
    return page.cookie


def _refused(text: str) -> Refused:
    if isinstance(read(text), GivenToken):
        return unauthenticated("a device's token cannot sign in: use an access key")
    return unauthenticated("the key is unknown, expired or revoked", "invalid_token")


def _cookie(name: str, value: str, max_age: int) -> Cookie:
    return Cookie(
        name, value=value, max_age=max_age, path="/", secure=name == SECURE_COOKIE, httponly=True, samesite="strict"
    )


async def _end_sessions(request: AnyRequest, database: Pool, keyring: Keyring) -> list[str]:
    """End the sessions in the request's cookies. Return the names of the cookies."""
    given = _sessions_of(request)
    for _, text in given:
        async with database.connection() as connection:
            ended = await sign_out(connection, text, actor_of(request).origin)
        if ended is not None:
            keyring.forget(ended)
    return list(dict.fromkeys(name for name, _ in given))


def _sessions_of(request: AnyRequest) -> list[tuple[str, str]]:
    """Return the names and values of the cookies with sessions, valid or not: the first MOST_COOKIES."""
    given = [pair for pair in cookies(request.scope["headers"]) if pair[0] in (SECURE_COOKIE, PLAIN_COOKIE)]
    return list(dict.fromkeys(given))[:MOST_COOKIES]


@get(
    "/",
    permission=Permission.ASK,
    summary="Get the own session",
    response_description="The caller.",
    responses=documented(problems.INVALID_VALUE),
)
async def show_session(request: AnyRequest, database: Database) -> Session:
    """Role, name, expiry and permissions of the caller. While AUTH is off, anybody may do everything."""
    principal: Principal = request.auth
    if principal.key_id is None:
        return _session(principal, None, None)
    async with database.connection() as connection:
        return await _described(connection, principal)


_KEY = """
    SELECT key.name, least(session.expires_at, key.expires_at)
    FROM access_keys AS key LEFT JOIN sessions AS session ON session.id = %s
    WHERE key.id = %s
"""


async def _described(connection: Connection, principal: Principal, expires_at: datetime | None = None) -> Session:
    """Return the session of a key. `expires_at`: of a session that was just created."""
    cursor = await connection.execute(_KEY, (principal.session_id, principal.key_id))
    row: Any = await cursor.fetchone() or (None, None)
    is_new = expires_at is not None
    return _session(principal, row[0], expires_at or row[1], Means.SESSION if is_new else None)


def _session(principal: Principal, name: str | None, expires_at: datetime | None, by: Means | None = None) -> Session:
    return Session(
        by=by or _means(principal),
        role=str(principal.role),
        prefix=None if principal.key_id is None else principal.name,
        name=name,
        device_id=principal.device_id,
        expires_at=expires_at,
        may=permissions_of(principal.role),
    )


def _means(principal: Principal) -> Means:
    if principal is ANYBODY:
        return Means.NOTHING
    if principal.device_id is not None:
        return Means.TOKEN
    return Means.KEY if principal.session_id is None else Means.SESSION


@dataclass
class _SignOutOperation(Operation):
    """Documents that the response has no content."""

    def __post_init__(self) -> None:
        assert self.responses is not None
        answer = self.responses["204"]
        assert isinstance(answer, OpenAPIResponse)
        answer.content = None


@delete(
    "/",
    permission=Permission.PUBLIC,
    operation_class=_SignOutOperation,
    security=NO_KEY,
    summary="Sign out",
    response_description="Signed out.",
    response_headers=[_SET_COOKIE],
    responses=documented(problems.INVALID_VALUE),
)
async def delete_session(request: AnyRequest, database: Database, keyring: _Keyring) -> Response[None]:
    """The browser's session ends, in every process within a second. Without a session, nothing happens."""
    if keyring is None:
        return Response(None)
    page = page_of(request.scope["headers"], request.scope["scheme"])
    if _sessions_of(request) and not page.is_own:
        raise foreign_page(page)
    names = await _end_sessions(request, database, keyring)
    return Response(None, cookies=[_cookie(name, "", 0) for name in names])


router = Resource(
    "/session",
    route_handlers=[create_session, show_session, delete_session],
    response_headers=[ResponseHeader("Cache-Control", value="no-store", description="A session cannot be cached.")],
    tags=["access"],
)
