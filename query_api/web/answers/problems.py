"""What a client is told when its request is refused or fails: problem details (RFC 9457), for every error.

`Refused` is what a handler raises. Each problem's `type` is a path of this service that describes it.
The statuses: 400 what cannot be read or contradicts itself, 422 a value that is missing, of the wrong type
or out of range, 404 a path that leads to nothing.
"""

from collections.abc import Iterable, Mapping, Sequence
from http import HTTPStatus
from typing import Annotated, Any

import msgspec
from litestar import Request, Response, get
from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import Example
from litestar.params import PathParameter

from query_api.access.rules import Access
from query_api.errors import Fault
from query_api.web.resource import Resource

AnyRequest = Request[Any, Any, Any]

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_S = 5
RETRY_AFTER = {"Retry-After": str(RETRY_AFTER_S)}
"""The headers of a 503 after which it is worth while to try again."""
MAX_FAULTS = 20
"""So many faults of one request are listed; whoever mends these will see the others."""


class Problem(msgspec.Struct, frozen=True):
    """One kind of error that this service answers with."""

    name: str
    status: int
    title: str
    description: str

    @property
    def uri(self) -> str:
        """Identifies the problem, and answers GET with its description."""
        return f"/problems/{self.name}"


MALFORMED = Problem(
    "malformed-request", 400, "The request cannot be read",
    "The body is empty, or not JSON in UTF-8, or a header contradicts the rest of the request.",
)  # fmt: skip
REVERSED_PERIOD = Problem(
    "reversed-period", 400, "The period ends before it starts",
    "start is after end. Both are included in the period; either may be left out.",
)  # fmt: skip
BAD_CURSOR = Problem(
    "bad-cursor", 400, "The cursor is not of this list",
    "Take it as it is from X-Next-Cursor or the Link header, and use it with the same path and order.",
)  # fmt: skip
UNKNOWN_DEVICE = Problem(
    "unknown-device", 400, "The body names an unknown device",
    "No device has this number. POST /devices registers one; GET /devices lists them.",
)  # fmt: skip
UNAUTHENTICATED = Problem(
    "unauthenticated", 401, "The request shows no key that holds",
    "Send a key as `Authorization: Bearer …`. `devicestat keys create` makes one; a device has the token that it got "
    "when it was registered.",
)  # fmt: skip
FORBIDDEN = Problem(
    "forbidden", 403, "The key is not for this",
    "An admin key may do everything, an analyst key read and queue analyses, a writer key store readings, and a "
    "device's token store readings of that device.",
)  # fmt: skip
NOT_FOUND = Problem(
    "not-found", 404, "Nothing is here",
    "The path leads to nothing, or what it names by its number does not exist.",
)  # fmt: skip
NO_READINGS = Problem(
    "no-readings", 404, "The device has no readings",
    "The device is there and has not measured yet, or its readings are older than what is kept.",
)  # fmt: skip
NOT_ACCEPTABLE = Problem(
    "not-acceptable", 406, "Nothing here is of a type that Accept takes",
    "Accept one of application/json, text/csv, application/x-ndjson, application/vnd.apache.arrow.stream and "
    "application/vnd.apache.parquet; or leave it out, which gives JSON.",
)  # fmt: skip
NOT_INSTALLED = Problem(
    "format-not-installed", 406, "Arrow and Parquet are not installed here",
    'Have `pip install "devicestat[arrow]"` run where the service runs, or accept JSON, CSV or NDJSON.',
)  # fmt: skip
METHOD_NOT_ALLOWED = Problem(
    "method-not-allowed", 405, "The path does not take this method",
    "The Allow header lists the methods that it takes.",
)  # fmt: skip
KEY_TAKEN = Problem(
    "key-taken", 409, "Another device has this key",
    "A key is the device's level in its MQTT topic, and belongs to one device only.",
)  # fmt: skip
ALREADY_ENDED = Problem(
    "already-ended", 409, "The analysis has ended",
    "Only an analysis that is queued or running can be cancelled.",
)  # fmt: skip
TOO_LARGE = Problem(
    "too-large", 413, "The body is too large",
    "A body has at most 4 MiB. Send the readings in several requests, each of at most 10,000.",
)  # fmt: skip
UNSUPPORTED_MEDIA_TYPE = Problem(
    "unsupported-media-type", 415, "The body is not JSON",
    "Send JSON, with the header Content-Type: application/json.",
)  # fmt: skip
RANGE_NOT_SATISFIABLE = Problem(
    "range-not-satisfiable", 416, "The content has no such range",
    "The range begins behind the end of the content, or the content is too long to have ranges: read it without the "
    "header Range.",
)  # fmt: skip
INVALID_VALUE = Problem(
    "invalid-value", 422, "A value is missing or wrong",
    "`errors` names each field and says what would be right.",
)  # fmt: skip
TOO_MANY_REQUESTS = Problem(
    "too-many-requests", 429, "Too much at once",
    "A key, or an address where none is shown, has limits: of requests a minute (the setting RATE_LIMIT), of slow "
    "reads and streams at once, of readings that wait to be stored and long bodies that are being read, of queued "
    "analyses and schedules. The detail names the one that was reached. Try again after the seconds in Retry-After.",
)  # fmt: skip
INTERNAL_ERROR = Problem(
    "internal-error", 500, "The service has failed",
    "A fault of the service. It is logged there, with this path and time.",
)  # fmt: skip
UNAVAILABLE = Problem(
    "unavailable", 503, "The service cannot answer now",
    "The database does not answer, starts up, takes no writes, or the service stops. Try again after the seconds in "
    "Retry-After. GET /health/ready says more.",
)  # fmt: skip
BUSY = Problem(
    "busy", 503, "Too much is being done at once",
    "The service and its database work. All connections for such requests are in use, or another transaction held this "
    "request up. Try again after the seconds in Retry-After.",
)  # fmt: skip
LACKS_RESOURCES = Problem(
    "database-lacks-resources", 503, "The database lacks disk, memory or locks",
    "PostgreSQL answers, and lacks something that its operator has to give it. Try again after the seconds in "
    "Retry-After. The service's log has PostgreSQL's words.",
)  # fmt: skip
TOOK_TOO_LONG = Problem(
    "took-too-long", 503, "The query was cut off",
    "It ran longer than a request may (the setting QUERY_TIMEOUT), and would again. Ask for a shorter period or for "
    "fewer devices, or queue the analysis: POST /stats/analysis/{device_id}/async.",
)  # fmt: skip

PROBLEMS = {
    problem.name: problem
    for problem in (
        MALFORMED, REVERSED_PERIOD, BAD_CURSOR, UNKNOWN_DEVICE, UNAUTHENTICATED, FORBIDDEN,
        NOT_FOUND, NO_READINGS, NOT_ACCEPTABLE,
        NOT_INSTALLED, METHOD_NOT_ALLOWED, KEY_TAKEN,
        ALREADY_ENDED, TOO_LARGE, UNSUPPORTED_MEDIA_TYPE, RANGE_NOT_SATISFIABLE,
        INVALID_VALUE, TOO_MANY_REQUESTS, INTERNAL_ERROR, UNAVAILABLE,
        BUSY, LACKS_RESOURCES, TOOK_TOO_LONG,
    )
}  # fmt: skip


class ProblemDetails(msgspec.Struct, frozen=True, omit_defaults=True):
    """Why the request got no other answer (RFC 9457)."""

    type: Annotated[str, msgspec.Meta(description="The kind of problem: a path that describes it.")]
    title: Annotated[str, msgspec.Meta(description="The kind of problem, in words.")]
    status: Annotated[int, msgspec.Meta(description="The HTTP status, again.")]
    detail: Annotated[str, msgspec.Meta(description="What was wrong this time, and what to do.")]
    instance: Annotated[str, msgspec.Meta(description="The path of the request.")]
    errors: Annotated[
        Sequence[Fault], msgspec.Meta(description=f"Each wrong field; at most {MAX_FAULTS} of them.")
    ] = ()


class Refused(Exception):
    """The request is answered with a problem."""

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
    """The refusal of a request for the faults of its values."""
    first = f"{faults[0].field}: {faults[0].detail}"
    others = f"; and {len(faults) - 1} more" if len(faults) > 1 else ""
    return Refused(INVALID_VALUE, first + others, faults)


def answer(request: AnyRequest, refused: Refused) -> Response[ProblemDetails]:
    """The response that carries the problem."""
    problem = refused.problem
    return _respond(request, problem.uri, problem.title, problem.status, refused)


def answer_status(request: AnyRequest, status: int, detail: str) -> Response[ProblemDetails]:
    """The response for a status that is no problem of ours (RFC 9457 section 4.2.1)."""
    title = HTTPStatus(status).phrase
    return _respond(request, "about:blank", title, status, Refused(INTERNAL_ERROR, detail or title))


def _respond(request: AnyRequest, uri: str, title: str, status: int, refused: Refused) -> Response[ProblemDetails]:
    details = ProblemDetails(uri, title, status, refused.detail, request.scope["path"], refused.errors)
    headers = dict(refused.headers or {})
    return Response(details, status_code=status, media_type=MEDIA_TYPE, headers=headers)


NO_KEY: list[dict[str, list[str]]] = [{}]
"""The `security` of an operation that takes no key, in the OpenAPI document."""


def documented(*problems: Problem) -> dict[int, ResponseSpec]:
    """The responses of a route in the OpenAPI document: these problems, and those that any route can have."""
    everywhere = (
        MALFORMED,
        UNAUTHENTICATED,
        FORBIDDEN,
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
    """An example under its name. Litestar writes the name into the example, too, where OpenAPI allows no `id`."""

    @property
    def _exclude_fields(self) -> set[str]:
        return {"id"}


def _example(problem: Problem) -> Example:
    details = ProblemDetails(problem.uri, problem.title, problem.status, problem.description, "/stats")
    return _NamedExample(id=problem.name, summary=problem.title, value=msgspec.to_builtins(details))


@get(
    "/",
    access=Access.PUBLIC,
    security=NO_KEY,
    summary="The problems that requests can meet",
    responses=documented(INVALID_VALUE),
    sync_to_thread=False,
)
def list_problems() -> list[Problem]:
    """Each with the status it comes with, and what to do about it."""
    return list(PROBLEMS.values())


@get(
    "/{name:str}",
    access=Access.PUBLIC,
    security=NO_KEY,
    summary="One problem",
    responses=documented(NOT_FOUND, INVALID_VALUE),
    sync_to_thread=False,
)
def describe_problem(name: Annotated[str, PathParameter(description="The last part of the `type`.")]) -> Problem:
    """What the `type` of a problem stands for."""
    if name not in PROBLEMS:
        raise Refused(NOT_FOUND, f"no problem is named {name!r}: GET /problems lists them")
    return PROBLEMS[name]


router = Resource("/problems", route_handlers=[list_problems, describe_problem], tags=["problems"])
