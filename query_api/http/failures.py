"""Every exception that leaves a handler becomes a problem: the one place that decides which."""

from collections.abc import Mapping
from typing import Any

import psycopg
import structlog
from litestar import Response
from litestar.exceptions import HTTPException, ValidationException
from litestar.types import ExceptionHandlersMap
from psycopg.errors import QueryCanceled, ReadOnlySqlTransaction

from query_api.devices.handlers import no_such_device
from query_api.http import problems
from query_api.http.disconnect import ClientGone
from query_api.http.parameters import parameter_fault
from query_api.http.problems import AnyRequest, ProblemDetails, Refused, invalid
from shared.analysis import UnknownDevices
from shared.errors import DatabaseUnreachable

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


def _database_away(request: AnyRequest, error: psycopg.Error | DatabaseUnreachable) -> Response[ProblemDetails]:
    _log.warning("a request found no database", path=request.scope["path"], reason=str(error).strip())
    refused = Refused(
        problems.UNAVAILABLE,
        f"the database does not answer: try again in {problems.RETRY_AFTER_S} seconds",
        headers=problems.RETRY_AFTER,
    )
    return problems.answer(request, refused)


def _cut_off(request: AnyRequest, error: QueryCanceled) -> Response[ProblemDetails]:
    """By the statement timeout, or by whoever runs the database: in English at least its message tells.

    What writes is short, and was held up by others: it may be tried again.
    """
    if "user request" in str(error) or request.method != "GET":
        return _database_away(request, error)
    _log.warning("a request took too long", path=request.scope["path"])
    device = request.path_params.get("device_id", "{device_id}")
    refused = Refused(
        problems.TOOK_TOO_LONG,
        "the query ran longer than a request may: ask for a shorter period or for fewer devices, or queue the "
        f"analysis with POST /stats/analysis/{device}/async",
    )
    return problems.answer(request, refused)


def _unknown_devices(request: AnyRequest, error: UnknownDevices) -> Response[ProblemDetails]:
    return problems.answer(request, no_such_device(*error.devices))


def _hung_up(_: AnyRequest, __: ClientGone) -> Response[None]:
    """Nobody reads it; the status is for whoever stands in between."""
    return Response(None, status_code=_HUNG_UP)


def _unexpected(request: AnyRequest, error: Exception) -> Response[ProblemDetails]:
    """A fault of ours: the log has the traceback, the client does not."""
    _log.error("a request has failed", method=request.method, path=request.scope["path"], exc_info=error)
    return problems.answer(request, Refused(problems.INTERNAL_ERROR, problems.INTERNAL_ERROR.description))


HANDLERS: ExceptionHandlersMap = {
    Refused: _refused,
    UnknownDevices: _unknown_devices,
    ClientGone: _hung_up,
    QueryCanceled: _cut_off,
    ValidationException: _wrong_parameters,
    HTTPException: _http_error,
    ReadOnlySqlTransaction: _database_away,
    psycopg.OperationalError: _database_away,  # psycopg_pool's are among them
    DatabaseUnreachable: _database_away,
    psycopg.InterfaceError: _database_away,  # the connection was closed under the query
    Exception: _unexpected,
}
