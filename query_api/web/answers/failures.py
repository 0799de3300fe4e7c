"""Every exception that leaves a handler becomes a problem: the one place that decides which."""

from collections.abc import Mapping
from typing import Any

import psycopg
import structlog
from litestar import Response
from litestar.exceptions import HTTPException, ValidationException
from litestar.types import ExceptionHandlersMap

from query_api.errors import InvalidFields, QuotaReached, RequestEnded, UnknownDevices, UnknownRequest
from query_api.web.answers import problems
from query_api.web.answers.problems import AnyRequest, Problem, ProblemDetails, Refused, invalid
from query_api.web.disconnect import ClientGone
from query_api.web.requests.parameters import parameter_fault
from shared.errors import (
    DatabaseError,
    DatabaseNotReady,
    DatabaseReadOnly,
    Deadlock,
    DiskFull,
    LockTimedOut,
    LoginRefused,
    OutOfLockMemory,
    OutOfResources,
    PoolExhausted,
    QueryCancelled,
    QueryCutOff,
    ServerFault,
    StatementRefused,
    TooManyConnections,
)
from shared.postgres.errors import diagnose

_HUNG_UP = 499
"""As nginx has it: the client went away before it was answered."""

_log = structlog.get_logger()


def _refused(request: AnyRequest, refused: Refused) -> Response[ProblemDetails]:
    return problems.answer(request, refused)


def _wrong_parameters(request: AnyRequest, error: ValidationException) -> Response[ProblemDetails]:
    """Litestar could not convert the parameters: `extra` has a dict for each."""
    found: Any = error.extra or []
    if any(fault.get("key") == "data" for fault in found):
        return problems.answer(request, Refused(problems.MALFORMED, "the body is empty: this path takes JSON in UTF-8"))
    faults = [parameter_fault(request, str(fault.get("key", "")), str(fault["message"])) for fault in found]
    return problems.answer(request, invalid(*faults) if faults else Refused(problems.INVALID_VALUE, error.detail))


def _http_error(request: AnyRequest, error: HTTPException) -> Response[ProblemDetails]:
    """What Litestar itself answers with: no such path, no such method, too large."""
    path = request.scope["path"]
    headers: Mapping[str, str] = error.headers or {}
    match error.status_code:
        case 404:
            refused = Refused(problems.NOT_FOUND, f"nothing is at {path}: /docs lists all paths")
        case 405:
            allowed = headers.get("allow", "")
            refused = Refused(
                problems.METHOD_NOT_ALLOWED, f"{path} takes {allowed}, not {request.method}", headers=headers
            )
        case 413:
            refused = Refused(problems.TOO_LARGE, problems.TOO_LARGE.description)
        case 429:
            wait = headers.get("Retry-After", "some")
            detail = f"as many requests as may be made in a minute were made: try again in {wait} seconds"
            refused = Refused(problems.TOO_MANY_REQUESTS, detail, headers=headers)
        case 400:
            refused = Refused(problems.MALFORMED, error.detail)
        case status:
            return problems.answer_status(request, status, error.detail)
    return problems.answer(request, refused)


def _driver_failed(request: AnyRequest, error: psycopg.Error) -> Response[ProblemDetails]:
    return _database_failed(request, diagnose(error))


def _database_failed(request: AnyRequest, error: DatabaseError) -> Response[ProblemDetails]:
    """The answer names the kind of fault; the log has PostgreSQL's words, which may name tables and addresses."""
    if isinstance(error, StatementRefused | ServerFault):
        return _unexpected(request, error)
    _log.warning("the database failed a request", path=request.scope["path"], reason=str(error))
    if isinstance(error, QueryCutOff) and request.method == "GET":
        return problems.answer(request, _took_too_long(request))
    problem, detail, wait_s = next(answer for kind, answer in _DATABASE_ANSWERS.items() if isinstance(error, kind))
    refused = Refused(problem, f"{detail}: try again in {wait_s} seconds", headers={"Retry-After": str(wait_s)})
    return problems.answer(request, refused)


_DATABASE_ANSWERS: Mapping[type[DatabaseError], tuple[Problem, str, int]] = {
    PoolExhausted: (problems.BUSY, "all connections for such requests are in use", 2),
    QueryCutOff: (problems.BUSY, "other transactions held this one up until it was cut off", 2),
    QueryCancelled: (problems.BUSY, "an operator of the database cancelled the query", 2),
    LockTimedOut: (problems.BUSY, "another transaction holds a lock that this request needs", 2),
    Deadlock: (problems.BUSY, "the request and another transaction waited for each other", 1),
    DiskFull: (problems.LACKS_RESOURCES, "the database's disk is full", 30),
    OutOfLockMemory: (problems.LACKS_RESOURCES, "the database is out of lock memory", 5),
    OutOfResources: (problems.LACKS_RESOURCES, "the database is out of memory or of another resource", 5),
    DatabaseReadOnly: (problems.UNAVAILABLE, "the database takes no writes now", problems.RETRY_AFTER_S),
    DatabaseNotReady: (problems.UNAVAILABLE, "the database starts up or shuts down", problems.RETRY_AFTER_S),
    LoginRefused: (problems.UNAVAILABLE, "the database refuses the service's login", problems.RETRY_AFTER_S),
    TooManyConnections: (problems.UNAVAILABLE, "the database takes no more connections", problems.RETRY_AFTER_S),
    DatabaseError: (problems.UNAVAILABLE, "the database does not answer", problems.RETRY_AFTER_S),
}
"""For each kind the problem, its detail, and the seconds of Retry-After. The first that fits is taken."""


def _took_too_long(request: AnyRequest) -> Refused:
    device = request.path_params.get("device_id", "{device_id}")
    return Refused(
        problems.TOOK_TOO_LONG,
        "the query ran longer than a request may: ask for a shorter period or for fewer devices, or queue the "
        f"analysis with POST /stats/analysis/{device}/async",
    )


def _unknown_devices(request: AnyRequest, error: UnknownDevices) -> Response[ProblemDetails]:
    return problems.answer(request, Refused(problems.NOT_FOUND, f"{error}: GET /devices lists them"))


def _invalid_fields(request: AnyRequest, error: InvalidFields) -> Response[ProblemDetails]:
    return problems.answer(request, invalid(*error.faults))


def _unknown_request(request: AnyRequest, error: UnknownRequest) -> Response[ProblemDetails]:
    return problems.answer(request, Refused(problems.NOT_FOUND, str(error)))


def _request_ended(request: AnyRequest, error: RequestEnded) -> Response[ProblemDetails]:
    refused = Refused(problems.ALREADY_ENDED, f"{error}. {problems.ALREADY_ENDED.description}")
    return problems.answer(request, refused)


def _quota_reached(request: AnyRequest, error: QuotaReached) -> Response[ProblemDetails]:
    return problems.answer(request, Refused(problems.TOO_MANY_REQUESTS, str(error), headers=problems.RETRY_AFTER))


def _hung_up(_: AnyRequest, __: ClientGone) -> Response[None]:
    """Nobody reads it; the status is for whoever stands in between."""
    return Response(None, status_code=_HUNG_UP)


def _unexpected(request: AnyRequest, error: Exception) -> Response[ProblemDetails]:
    """A fault of ours: the log has the traceback, the client does not."""
    _log.error("a request has failed", method=request.method, path=request.scope["path"], exc_info=error)
    return problems.answer(request, Refused(problems.INTERNAL_ERROR, problems.INTERNAL_ERROR.description))


HANDLERS: ExceptionHandlersMap = {
    Refused: _refused,
    InvalidFields: _invalid_fields,
    UnknownDevices: _unknown_devices,
    UnknownRequest: _unknown_request,
    RequestEnded: _request_ended,
    QuotaReached: _quota_reached,
    ClientGone: _hung_up,
    ValidationException: _wrong_parameters,
    HTTPException: _http_error,
    DatabaseError: _database_failed,  # the pools raise it
    psycopg.OperationalError: _driver_failed,  # a stream's own connection does
    psycopg.InterfaceError: _driver_failed,
    Exception: _unexpected,
}
