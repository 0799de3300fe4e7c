"""Problem details (RFC 9457), the body of every error response.

A handler raises `Refused`. The `type` of a problem is a path of this service that describes it.
Status 400 is for a request that is malformed or contradicts itself. 422 is for a value that is missing, of the wrong
type or out of range. 404 is for a path without a resource.
"""

from collections.abc import Iterable, Mapping, Sequence
from http import HTTPStatus
from typing import Annotated, Any

import msgspec
from litestar import Request, Response, get
from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import Example
from litestar.params import PathParameter

from query_api.access.rules import Permission
from query_api.errors import Fault
from query_api.web.resource import Resource
from shared.serving.redaction import without_credentials

AnyRequest = Request[Any, Any, Any]

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_S = 5
RETRY_AFTER = {"Retry-After": str(RETRY_AFTER_S)}
"""Headers of a 503 that the client may retry."""
MAX_FAULTS = 20
"""Faults that one response lists."""


class Problem(msgspec.Struct, frozen=True):
    """A kind of error of this service."""

    name: str
    status: int
    title: str
    description: str

    @property
    def uri(self) -> str:
        """The path that identifies the problem. GET returns its description."""
        return f"/problems/{self.name}"


MALFORMED = Problem(
    "malformed-request", 400, "The request cannot be read",
    "The body is empty, or not JSON in UTF-8, or a header contradicts the rest of the request.",
)  # fmt: skip
REVERSED_PERIOD = Problem(
    "reversed-period", 400, "The period ends before it starts",
    "start is after end. Both are included in the period, and both are optional.",
)  # fmt: skip
BAD_CURSOR = Problem(
    "bad-cursor", 400, "The cursor belongs to another list",
    "Copy the cursor from X-Next-Cursor or the Link header, and use it with the same path and parameters.",
)  # fmt: skip
UNKNOWN_DEVICE = Problem(
    "unknown-device", 400, "The body names an unknown device",
    "No device has this id. POST /devices registers a device; GET /devices lists them.",
)  # fmt: skip
UNAUTHENTICATED = Problem(
    "unauthenticated", 401, "Missing or invalid credentials",
    "Send a key or a device's token as `Authorization: Bearer …`, or sign in with POST /session in a browser. "
    "`devicestat keys create` creates a key; a device gets its token when it is registered.",
)  # fmt: skip
FORBIDDEN = Problem(
    "forbidden", 403, "The credentials do not allow this",
    "An admin key allows everything, an analyst key reading and queueing analyses, a writer key storing readings, and "
    "a device's token storing readings of that device.",
)  # fmt: skip
FOREIGN_PAGE = Problem(
    "foreign-page", 403, "Another site's page may not use the session",
    "A browser adds the session's cookie to requests of any page. A request that changes something must be from a page "
    "of this service, by Sec-Fetch-Site or Origin. A proxy must forward the Host, and TRUSTED_PROXIES must name the "
    "proxy. Programs send a key as `Authorization: Bearer …` instead.",
)  # fmt: skip
INSECURE_CONNECTION = Problem(
    "insecure-connection", 403, "Signing in requires https",
    "Over http, anybody on the network could read the session. Use https, or http://localhost on the machine itself. "
    "Behind a proxy that terminates TLS, TRUSTED_PROXIES must name the proxy.",
)  # fmt: skip
NOT_FOUND = Problem(
    "not-found", 404, "Not found",
    "The path does not exist, or no resource has the id in it.",
)  # fmt: skip
NO_READINGS = Problem(
    "no-readings", 404, "The device has no readings",
    "The device exists, but has no readings yet, or all of them were deleted at the age of RETENTION.",
)  # fmt: skip
NOT_ACCEPTABLE = Problem(
    "not-acceptable", 406, "No representation matches Accept",
    "The detail lists the media types of this path. Without the header the response is JSON.",
)  # fmt: skip
NOT_INSTALLED = Problem(
    "format-not-installed", 406, "The format is not installed",
    'Run `pip install "devicestat[arrow]"` where the service runs, or request another format.',
)  # fmt: skip
METHOD_NOT_ALLOWED = Problem(
    "method-not-allowed", 405, "Method not allowed",
    "The Allow header lists the methods of this path.",
)  # fmt: skip
KEY_TAKEN = Problem(
    "key-taken", 409, "Another device has this key",
    "A key is the device's level in its MQTT topic, and is unique.",
)  # fmt: skip
ALREADY_ENDED = Problem(
    "already-ended", 409, "The analysis has already finished",
    "Only an analysis that is queued or running can be cancelled.",
)  # fmt: skip
ALREADY_DONE = Problem(
    "already-done", 409, "The analysis has succeeded",
    "Only an analysis that failed or was cancelled can be retried. POST /stats/analysis/{device_id}/async queues a new "
    "analysis.",
)  # fmt: skip
NOTHING_TO_SIGN_IN_TO = Problem(
    "authentication-off", 409, "Authentication is off",
    "While AUTH is off, every request is allowed without credentials, and there are no sessions.",
)  # fmt: skip
OWN_KEY = Problem(
    "own-key", 409, "A key cannot revoke itself",
    "The request was made with this key, or with a session of it. Rotate the key to replace it, or revoke it with "
    "another admin key or with `devicestat keys revoke`.",
)  # fmt: skip
KEY_ENDED = Problem(
    "key-ended", 409, "The key has ended",
    "Only a valid key can be rotated. Create a new key instead.",
)  # fmt: skip
TOO_LARGE = Problem(
    "too-large", 413, "The body is too large",
    "A body is at most 4 MiB. Send readings in several requests, each with at most 10,000.",
)  # fmt: skip
UNSUPPORTED_MEDIA_TYPE = Problem(
    "unsupported-media-type", 415, "The body is not JSON",
    "Send JSON with the header Content-Type: application/json.",
)  # fmt: skip
RANGE_NOT_SATISFIABLE = Problem(
    "range-not-satisfiable", 416, "The range cannot be satisfied",
    "The range begins after the end of the content, or the content is too long for ranges. Send the request without "
    "the header Range.",
)  # fmt: skip
INVALID_VALUE = Problem(
    "invalid-value", 422, "A value is missing or invalid",
    "`errors` lists each invalid field with the expected value.",
)  # fmt: skip
TOO_MANY_REQUESTS = Problem(
    "too-many-requests", 429, "A limit was reached",
    "Each key, or each address without a key, has limits: requests per minute (RATE_LIMIT), attempts to sign in, "
    "concurrent slow reads and streams, readings waiting to be stored, long bodies in transfer, queued analyses, and "
    "schedules. The detail names the limit. Retry after the seconds in Retry-After.",
)  # fmt: skip
INTERNAL_ERROR = Problem(
    "internal-error", 500, "Internal error",
    "The service failed. Its log has an entry with this path and time.",
)  # fmt: skip
UNAVAILABLE = Problem(
    "unavailable", 503, "The service is unavailable",
    "The database does not respond, is starting up or is read-only, or the service is stopping. Retry after the "
    "seconds in Retry-After. GET /health/ready returns the state of each part.",
)  # fmt: skip
BUSY = Problem(
    "busy", 503, "The service is busy",
    "The service and its database work, but all connections for such requests are in use, or another transaction "
    "blocked this one. Retry after the seconds in Retry-After.",
)  # fmt: skip
LACKS_RESOURCES = Problem(
    "database-lacks-resources", 503, "The database is out of a resource",
    "PostgreSQL responds, but is out of disk space, memory or locks, which its operator must provide. Retry after the "
    "seconds in Retry-After. The service's log has PostgreSQL's message.",
)  # fmt: skip
TOOK_TOO_LONG = Problem(
    "took-too-long", 503, "The query timed out",
    "It ran longer than QUERY_TIMEOUT, and would time out again. Request a shorter period or fewer devices, or queue "
    "the analysis: POST /stats/analysis/{device_id}/async.",
)  # fmt: skip

PROBLEMS = {
    problem.name: problem
    for problem in (
        MALFORMED, REVERSED_PERIOD, BAD_CURSOR, UNKNOWN_DEVICE, UNAUTHENTICATED, FORBIDDEN,
        FOREIGN_PAGE, INSECURE_CONNECTION, NOT_FOUND, NO_READINGS, NOT_ACCEPTABLE,
        NOT_INSTALLED, METHOD_NOT_ALLOWED, KEY_TAKEN,
        ALREADY_ENDED, ALREADY_DONE, NOTHING_TO_SIGN_IN_TO, OWN_KEY, KEY_ENDED, TOO_LARGE, UNSUPPORTED_MEDIA_TYPE,
        RANGE_NOT_SATISFIABLE,
        INVALID_VALUE, TOO_MANY_REQUESTS, INTERNAL_ERROR, UNAVAILABLE,
        BUSY, LACKS_RESOURCES, TOOK_TOO_LONG,
    )
}  # fmt: skip


class ProblemDetails(msgspec.Struct, frozen=True, omit_defaults=True):
    """Problem details (RFC 9457)."""

    type: Annotated[str, msgspec.Meta(description="The problem type: a path to its description.")]
    title: Annotated[str, msgspec.Meta(description="The title of the problem type.")]
    status: Annotated[int, msgspec.Meta(description="The HTTP status.")]
    detail: Annotated[str, msgspec.Meta(description="The cause of the error, and a remedy.")]
    instance: Annotated[str, msgspec.Meta(description="The path of the request.")]
    errors: Annotated[Sequence[Fault], msgspec.Meta(description=f"The invalid fields, at most {MAX_FAULTS}.")] = ()


class Refused(Exception):
    """The request is refused with a problem."""

    def __init__(
        self,
        problem: Problem,
        detail: str,
        errors: Iterable[Fault] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self.problem = problem
        self.detail = detail
        self.errors = tuple(errors)[:MAX_FAULTS]
        self.headers = headers
        super().__init__(detail)


def invalid(*faults: Fault) -> Refused:
    """Return the refusal of a request with wrong values."""
    first = f"{faults[0].field}: {faults[0].detail}"
    others = f"; and {len(faults) - 1} more" if len(faults) > 1 else ""
    return Refused(INVALID_VALUE, first + others, faults)


def answer(request: AnyRequest, refused: Refused) -> Response[ProblemDetails]:
    """Return the response for a refusal."""
    problem = refused.problem
    return _respond(request, problem.uri, problem.title, problem.status, refused)


def answer_status(request: AnyRequest, status: int, detail: str) -> Response[ProblemDetails]:
    """Return the response for a status that has no problem here (RFC 9457 section 4.2.1)."""
    title = HTTPStatus(status).phrase
    return _respond(request, "about:blank", title, status, Refused(INTERNAL_ERROR, detail or title))


def _respond(request: AnyRequest, uri: str, title: str, status: int, refused: Refused) -> Response[ProblemDetails]:
    detail, path = map(without_credentials, (refused.detail, request.scope["path"]))
    errors = tuple(Fault(*map(without_credentials, (fault.field, fault.detail))) for fault in refused.errors)
    details = ProblemDetails(uri, title, status, detail, path, errors)
    headers = {"Cache-Control": "no-store", **(refused.headers or {})}
    return Response(details, status_code=status, media_type=MEDIA_TYPE, headers=headers)


NO_KEY: list[dict[str, list[str]]] = [{}]
"""`security` of an operation without credentials, in the OpenAPI document."""


def documented(*problems: Problem) -> dict[int, ResponseSpec]:
    """Return the responses of a route for the OpenAPI document: these problems, and those of every route."""
    everywhere = (
        MALFORMED,
        UNAUTHENTICATED,
        FORBIDDEN,
        FOREIGN_PAGE,
        TOO_MANY_REQUESTS,
        INTERNAL_ERROR,
        UNAVAILABLE,
        BUSY,
        LACKS_RESOURCES,
    )
    by_status: dict[int, list[Problem]] = {}
    for problem in (*problems, *everywhere):
        by_status.setdefault(problem.status, []).append(problem)
    return {
        status: ResponseSpec(
            ProblemDetails,
            generate_examples=False,
            description="\n\n".join(f"`{p.uri}`: {p.title}. {p.description}" for p in alike),
            media_type=MEDIA_TYPE,
            examples=[_example(problem) for problem in alike],
        )
        for status, alike in by_status.items()
    }


class _NamedExample(Example):
    """A named example. Litestar also writes the name into the example as `id`, which OpenAPI does not allow."""

    @property
    def _exclude_fields(self) -> set[str]:
        return {"id"}


def _example(problem: Problem) -> Example:
    details = ProblemDetails(problem.uri, problem.title, problem.status, problem.description, "/stats")
    return _NamedExample(id=problem.name, summary=problem.title, value=msgspec.to_builtins(details))


@get(
    "/",
    permission=Permission.PUBLIC,
    security=NO_KEY,
    summary="List the problem types",
    response_description="All problem types.",
    responses=documented(INVALID_VALUE),
    sync_to_thread=False,
)
def list_problems() -> list[Problem]:
    """Return each problem type with its status and description."""
    return list(PROBLEMS.values())


@get(
    "/{name:str}",
    permission=Permission.PUBLIC,
    security=NO_KEY,
    summary="Get a problem type",
    response_description="The problem type.",
    responses=documented(NOT_FOUND, INVALID_VALUE),
    sync_to_thread=False,
)
def describe_problem(name: Annotated[str, PathParameter(description="The last segment of `type`.")]) -> Problem:
    """Return the problem type with this name."""
    if name not in PROBLEMS:
        raise Refused(NOT_FOUND, f"there is no problem type {name!r}: GET /problems lists them")
    return PROBLEMS[name]


router = Resource("/problems", route_handlers=[list_problems, describe_problem], tags=["problems"])
