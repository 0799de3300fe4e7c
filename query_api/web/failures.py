"""Map every exception of a handler to a problem."""

from collections.abc import Mapping
from typing import Any

import psycopg
import structlog
from litestar import Response
from litestar.exceptions import HTTPException, ValidationException
from litestar.types import ExceptionHandlersMap

from query_api.errors import (
    ClientError,
    InvalidFields,
    QuotaReached,
    RequestDone,
    RequestEnded,
    UnknownDevices,
    UnknownRequest,
)
from query_api.statistics.blocks.damage import DamagedBlocks
from query_api.web.answers import problems
from query_api.web.answers.problems import AnyRequest, Problem, ProblemDetails, Refused, invalid
from query_api.web.disconnect import ClientGone
from query_api.web.requests.parameters import parameter_fault
from shared.access.keys import KeyEnded, UnknownKey
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
"""nginx's status for a client that disconnected before the response."""

_log = structlog.get_logger()


def _refused(request: AnyRequest, refused: Refused) -> Response[ProblemDetails]:
    return problems.answer(request, refused)


def _wrong_parameters(request: AnyRequest, error: ValidationException) -> Response[ProblemDetails]:
    """Litestar could not convert parameters. `extra` has a dict for each."""
    found: Any = error.extra or []
    if any(fault.get("key") == "data" for fault in found):
        return problems.answer(request, Refused(problems.MALFORMED, "the body is empty: this path takes JSON in UTF-8"))
    faults = [parameter_fault(request, str(fault.get("key", "")), str(fault["message"])) for fault in found]
    return problems.answer(request, invalid(*faults) if faults else Refused(problems.INVALID_VALUE, error.detail))


def _http_error(request: AnyRequest, error: HTTPException) -> Response[ProblemDetails]:
    """An error of Litestar: unknown path, wrong method, body too large."""
    path = request.scope["path"]
    headers: Mapping[str, str] = error.headers or {}
    match error.status_code:
        case 404:
            refused = Refused(problems.NOT_FOUND, f"{path} does not exist: /docs lists all paths")
        case 405:
            allowed = headers.get("allow", "")
            refused = Refused(
                problems.METHOD_NOT_ALLOWED, f"{path} takes {allowed}, not {request.method}", headers=headers
            )
        case 413:
            refused = Refused(problems.TOO_LARGE, problems.TOO_LARGE.description)
        case 429:
            wait = headers.get("Retry-After", "some")
            detail = f"the limit of requests per minute was reached: retry in {wait} seconds"
            refused = Refused(problems.TOO_MANY_REQUESTS, detail, headers=headers)
        case 400:
            refused = Refused(problems.MALFORMED, error.detail)
        case status:
            return problems.answer_status(request, status, error.detail)
    return problems.answer(request, refused)


def _driver_failed(request: AnyRequest, error: psycopg.Error) -> Response[ProblemDetails]:
    return _database_failed(request, diagnose(error))


def _database_failed(request: AnyRequest, error: DatabaseError) -> Response[ProblemDetails]:
    """The response names the kind of fault. The log has PostgreSQL's message, which may name tables and addresses."""
    if isinstance(error, StatementRefused | ServerFault):
        return _unexpected(request, error)
    _log.warning("a request failed at the database", path=request.scope["path"], reason=str(error))
    if isinstance(error, QueryCutOff) and request.method == "GET":
        return problems.answer(request, _took_too_long(request))
    problem, detail, wait_s = next(answer for kind, answer in _DATABASE_ANSWERS.items() if isinstance(error, kind))
    refused = Refused(problem, f"{detail}: retry in {wait_s} seconds", headers={"Retry-After": str(wait_s)})
    return problems.answer(request, refused)


_DATABASE_ANSWERS: Mapping[type[DatabaseError], tuple[Problem, str, int]] = {
    PoolExhausted: (problems.BUSY, "all connections for such requests are in use", 2),
    QueryCutOff: (problems.BUSY, "the statement was blocked by other transactions until it timed out", 2),
    QueryCancelled: (problems.BUSY, "an operator of the database cancelled the query", 2),
    LockTimedOut: (problems.BUSY, "another transaction holds a lock that this request needs", 2),
    Deadlock: (problems.BUSY, "the request was in a deadlock with another transaction", 1),
    DiskFull: (problems.LACKS_RESOURCES, "the database's disk is full", 30),
    OutOfLockMemory: (problems.LACKS_RESOURCES, "the database is out of lock memory", 5),
    OutOfResources: (problems.LACKS_RESOURCES, "the database is out of memory or of another resource", 5),
    DatabaseReadOnly: (problems.UNAVAILABLE, "the database is read-only", problems.RETRY_AFTER_S),
    DatabaseNotReady: (problems.UNAVAILABLE, "the database is starting up or shutting down", problems.RETRY_AFTER_S),
    LoginRefused: (problems.UNAVAILABLE, "the database refuses the service's login", problems.RETRY_AFTER_S),
    TooManyConnections: (problems.UNAVAILABLE, "the database has no free connections", problems.RETRY_AFTER_S),
    DatabaseError: (problems.UNAVAILABLE, "the database does not respond", problems.RETRY_AFTER_S),
}
"""Problem, detail and Retry-After in seconds by kind of error. The first match applies."""


def _took_too_long(request: AnyRequest) -> Refused:
    device = request.path_params.get("device_id", "{device_id}")
    return Refused(
        problems.TOOK_TOO_LONG,
        "the query ran longer than QUERY_TIMEOUT: request a shorter period or fewer devices, or queue the "
        f"analysis with POST /stats/analysis/{device}/async",
    )


def _client_failed(request: AnyRequest, error: ClientError) -> Response[ProblemDetails]:
    return problems.answer(request, _refusal_of(error))


def _refusal_of(error: ClientError) -> Refused:
    match error:
        case InvalidFields():
            return invalid(*error.faults)
        case UnknownDevices():
            return Refused(problems.NOT_FOUND, f"{error}: GET /devices lists them")
        case RequestEnded():
            return Refused(problems.ALREADY_ENDED, f"{error}. {problems.ALREADY_ENDED.description}")
        case RequestDone():
            return Refused(problems.ALREADY_DONE, f"{error}. {problems.ALREADY_DONE.description}")
        case QuotaReached():
            return Refused(problems.TOO_MANY_REQUESTS, str(error), headers=problems.RETRY_AFTER)
        case UnknownRequest():
            return Refused(problems.NOT_FOUND, str(error))
    raise error


def _no_key(request: AnyRequest, error: UnknownKey) -> Response[ProblemDetails]:
    return problems.answer(
        request, Refused(problems.NOT_FOUND, f"there is no key {error.prefix}: GET /keys lists them")
    )


def _ended_key(request: AnyRequest, error: KeyEnded) -> Response[ProblemDetails]:
    key = error.key
    detail = f"the key {key.prefix} is {key.state}, and cannot be rotated: create one with POST /keys"
    return problems.answer(request, Refused(problems.KEY_ENDED, detail))


def _hung_up(_: AnyRequest, __: ClientGone) -> Response[None]:
    """Respond to a client that disconnected. Only proxies and metrics see the status."""
    return Response(None, status_code=_HUNG_UP)


def _damaged(request: AnyRequest, error: DamagedBlocks) -> Response[ProblemDetails]:
    """The worker was asked to build the blocks anew (`query_api/statistics/blocks/reading/snapshot.py`)."""
    _log.error("a request failed", method=request.method, path=request.scope["path"], reason=str(error))
    devices = ", ".join(map(str, error.devices[:10]))
    detail = f"stored arrays of device {devices} are damaged. A worker builds them anew, usually within a minute"
    return problems.answer(request, Refused(problems.INTERNAL_ERROR, detail))


def _unexpected(request: AnyRequest, error: Exception) -> Response[ProblemDetails]:
    """A defect of the service. The traceback goes to the log, not to the client."""
    _log.error("a request failed", method=request.method, path=request.scope["path"], exc_info=error)
    return problems.answer(request, Refused(problems.INTERNAL_ERROR, problems.INTERNAL_ERROR.description))


HANDLERS: ExceptionHandlersMap = {
    Refused: _refused,
    ClientError: _client_failed,
    UnknownKey: _no_key,
    KeyEnded: _ended_key,
    ClientGone: _hung_up,
    DamagedBlocks: _damaged,
    ValidationException: _wrong_parameters,
    HTTPException: _http_error,
    DatabaseError: _database_failed,  # from the pools
    psycopg.OperationalError: _driver_failed,  # from the connection of a stream
    psycopg.InterfaceError: _driver_failed,
    Exception: _unexpected,
}
