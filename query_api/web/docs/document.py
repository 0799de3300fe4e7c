"""The OpenAPI document, and its page: Swagger UI, served from this process with nothing from elsewhere."""

from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import msgspec
from litestar import MediaType, Response, get
from litestar.exceptions import InternalServerException
from litestar.handlers import HTTPRouteHandler
from litestar.openapi import OpenAPIConfig
from litestar.openapi.spec import Components, License, Reference, SecurityScheme, Tag
from litestar.response import Redirect
from litestar.router import Router
from litestar.static_files import create_static_files_router
from litestar.types import ExceptionHandlersMap

from query_api.access.rules import OPTION, Access
from query_api.web.answers import problems
from query_api.web.answers.problems import AnyRequest, ProblemDetails, Refused
from query_api.web.docs.page import ASSETS, HEADERS, PATH, SwaggerPage

_DESCRIPTION = """\
Readings of devices, and exact figures over any period.

Times are RFC 3339 in UTC, with six digits of a second. As `start` a date is its midnight, as `end` it includes its day:
in the `timezone` of the request, else in UTC. A parameter that is not known, or that comes twice and is no list, is
refused, and so is an unknown field of a body; those of readings are ignored.

Lists come in pages: the next one is in the `Link` header. Every error is a problem (RFC 9457) whose `type` says more
about it.
"""
_KEY = SecurityScheme(
    type="http",
    scheme="bearer",
    description="An admin key may do everything, an analyst key read and queue analyses, a writer key `POST /stats`; a "
    "device's token `POST /stats` for that device.",
)
_BROKER = SecurityScheme(
    type="http",
    scheme="bearer",
    description="MQTT_AUTH_SECRET, which nothing else takes; also as the password of Basic authentication.",
)
_BROKERS = Tag("brokers", "What MQTT brokers ask about their clients.")
_TAGS = [
    Tag("devices", "Whatever publishes readings."),
    Tag("readings", "What devices measured, on three axes."),
    Tag("analysis", "Min, max, sum, count and median of each axis: at once, or queued for a worker."),
    Tag("schedules", "Analyses that come round again."),
    Tag("problems", "The errors of this service."),
    Tag("operation", "Health and figures of this process."),
]


def _operation_id(handler: HTTPRouteHandler, _: object, __: object) -> str:
    """The name of the handler's function, such as list_readings: what generated clients call their methods."""
    return str(handler.handler_name).rpartition(".")[2]


def configuration(*, secured: bool, brokers: bool) -> OpenAPIConfig:
    """What Litestar makes the document and its page from.

    `secured`: a key is to be shown. `brokers`: MQTT brokers may ask, with a secret of their own.
    """
    schemes: dict[str, SecurityScheme | Reference] = {
        **({"key": _KEY} if secured else {}),
        **({"broker": _BROKER} if brokers else {}),
    }
    return OpenAPIConfig(
        title="Devicestat",
        version=version("devicestat"),
        description=_DESCRIPTION,
        license=License("MIT", identifier="MIT"),
        tags=[*_TAGS, *([_BROKERS] if brokers else [])],
        components=Components(security_schemes=schemes),
        security=[{"key": []}] if secured else None,
        use_handler_docstrings=True,
        operation_id_creator=_operation_id,
        openapi_router=Router(
            PATH, route_handlers=[], opt={OPTION: Access.PUBLIC}, include_in_schema=False, response_headers=HEADERS
        ),
        render_plugins=[SwaggerPage()],
    )


@get("/openapi.json", access=Access.PUBLIC, include_in_schema=False, sync_to_thread=False)
def openapi_document(request: AnyRequest) -> Response[bytes]:
    """The document, where tools look for it."""
    document = msgspec.json.encode(request.app.openapi_schema.to_schema())
    return Response(document, media_type=MediaType.JSON)


@get("/", access=Access.PUBLIC, include_in_schema=False, sync_to_thread=False)
def page() -> Redirect:
    """Leads whoever opens the bare address to the page."""
    return Redirect(PATH)


def assets() -> Router:
    """Swagger UI's files, which come inside the package swagger-ui-py; the package itself is not imported."""
    found = find_spec("swagger_ui")
    assert found is not None, "swagger-ui-py is a dependency"
    assert found.origin is not None, "it is a regular package"
    folder = Path(found.origin).parent / "static"
    # What a file cannot be called: with a NUL in it, too long, or below another file.
    no_name: ExceptionHandlersMap = {ValueError: _no_such_file, InternalServerException: _no_such_file}
    return create_static_files_router(
        ASSETS, [folder], include_in_schema=False, exception_handlers=no_name, opt={OPTION: Access.PUBLIC}
    )


def _no_such_file(request: AnyRequest, _: Exception) -> Response[ProblemDetails]:
    return problems.answer(request, Refused(problems.NOT_FOUND, f"there is no file here: {PATH} is the page"))
