"""The OpenAPI document and its page: Swagger UI, served by this process without other hosts."""

import asyncio
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import msgspec
from litestar import Litestar, MediaType, Response, get
from litestar._openapi.plugin import OpenAPIPlugin
from litestar.exceptions import InternalServerException
from litestar.handlers import HTTPRouteHandler
from litestar.openapi import OpenAPIConfig
from litestar.openapi.spec import Components, License, Reference, SecurityScheme, Tag
from litestar.response import Redirect
from litestar.router import Router
from litestar.static_files import create_static_files_router
from litestar.types import ExceptionHandlersMap

from query_api.access.rules import OPTION, Permission
from query_api.web.answers import problems
from query_api.web.answers.problems import AnyRequest, ProblemDetails, Refused
from query_api.web.docs.page import ASSETS, HEADERS, PATH, SwaggerPage

_DESCRIPTION = """\
Device readings, and exact figures over any period.

Times are RFC 3339 in UTC, with six fractional digits. A date as `start` means its midnight; a date as `end` includes
that day. Both are in the `timezone` of the request, by default UTC. Unknown parameters, repeated parameters that are
not lists, and unknown fields of a body are refused. Unknown fields of readings are ignored.

Lists are paginated: the `Link` header holds the next page. Every error is a problem (RFC 9457); its `type` links to a
description.
"""
_KEY = SecurityScheme(
    type="http",
    scheme="bearer",
    description="An admin key permits everything, an analyst key reading and queueing analyses, a writer key "
    "`POST /stats`, and a device token `POST /stats` for that device.",
)
_BROKER = SecurityScheme(
    type="http",
    scheme="bearer",
    description="MQTT_AUTH_SECRET, which is valid for these paths only; also as the password of Basic authentication.",
)
_BROKERS = Tag("brokers", "Decisions for MQTT brokers about their clients.")
_TAGS = [
    Tag("devices", "Devices that publish readings."),
    Tag("readings", "Measurements of devices, on three axes."),
    Tag("analysis", "Min, max, sum, count and median of each axis: immediately, or queued for a worker."),
    Tag("schedules", "Recurring analyses."),
    Tag("problems", "The errors that this service returns."),
    Tag("operation", "Health and metrics of this process."),
]


def _operation_id(handler: HTTPRouteHandler, _: object, __: object) -> str:
    """Return the name of the handler's function, such as list_readings, for the methods of generated clients."""
    return str(handler.handler_name).rpartition(".")[2]


def configuration(*, secured: bool, brokers: bool) -> OpenAPIConfig:
    """Configure Litestar's document and its page.

    `secured`: requests need a key. `brokers`: the paths for MQTT brokers are served, with a secret of their own.
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
            PATH,
            route_handlers=[],
            opt={OPTION: Permission.PUBLIC},
            include_in_schema=False,
            response_headers=HEADERS,
            before_request=_prepare,
        ),
        render_plugins=[SwaggerPage()],
    )


async def _document(app: Litestar) -> dict[str, Any]:
    """Return the document. Litestar keeps it. Making it would hold the event loop for 60 ms."""
    return await asyncio.to_thread(app.plugins.get(OpenAPIPlugin).provide_openapi_schema)


async def _prepare(request: AnyRequest) -> None:
    await _document(request.app)


@get("/openapi.json", permission=Permission.PUBLIC, include_in_schema=False)
async def openapi_document(request: AnyRequest) -> Response[bytes]:
    """Return the document at the path where tools expect it."""
    return Response(msgspec.json.encode(await _document(request.app)), media_type=MediaType.JSON)


@get("/", permission=Permission.PUBLIC, include_in_schema=False, sync_to_thread=False)
def page() -> Redirect:
    """Redirect the bare address to the page."""
    return Redirect(PATH)


def assets() -> Router:
    """Files of Swagger UI, from the package mkdocs-swagger-ui-tag (ADR 40); the package itself is not imported."""
    found = find_spec("mkdocs_swagger_ui_tag")
    assert found is not None, "mkdocs-swagger-ui-tag is a dependency"
    assert found.origin is not None, "it is a regular package"
    folder = Path(found.origin).parent / "swagger-ui"
    # Names that cannot exist: they contain NUL, are too long, or are below a file.
    no_name: ExceptionHandlersMap = {ValueError: _no_such_file, InternalServerException: _no_such_file}
    return create_static_files_router(
        ASSETS, [folder], include_in_schema=False, exception_handlers=no_name, opt={OPTION: Permission.PUBLIC}
    )


def _no_such_file(request: AnyRequest, _: Exception) -> Response[ProblemDetails]:
    return problems.answer(request, Refused(problems.NOT_FOUND, f"this file does not exist: {PATH} is the page"))
