"""The OpenAPI document and its page: Swagger UI, served by this process without other hosts."""

import asyncio
from importlib.metadata import version
from typing import Any

import msgspec
from litestar import Litestar, MediaType, Response, get
from litestar._openapi.plugin import OpenAPIPlugin
from litestar.handlers import HTTPRouteHandler
from litestar.openapi import OpenAPIConfig
from litestar.openapi.spec import Components, License, Reference, SecurityScheme, Tag
from litestar.router import Router

from query_api.access.rules import OPTION, Permission
from query_api.access.shown import PLAIN_COOKIE, SECURE_COOKIE
from query_api.web.answers.problems import AnyRequest
from query_api.web.docs.page import HEADERS, PATH, SwaggerPage

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
_SESSION = SecurityScheme(
    type="apiKey",
    name=SECURE_COOKIE,
    security_scheme_in="cookie",
    description="The session of a browser that has signed in with POST /session. On http://localhost the cookie is "
    f"`{PLAIN_COOKIE}`. A request that changes something must be from a page of this service.",
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
    Tag("access", "Signing in, keys, and the audit log."),
    Tag("dead letters", "Messages of which readings were refused."),
    Tag("problems", "The errors that this service returns."),
    Tag("operation", "Health and metrics of this process, and the state of all processes."),
]


def _operation_id(handler: HTTPRouteHandler, _: object, __: object) -> str:
    """Return the name of the handler's function, such as list_readings, for the methods of generated clients."""
    return str(handler.handler_name).rpartition(".")[2]


def configuration(*, secured: bool, brokers: bool, assets: str) -> OpenAPIConfig:
    """Configure Litestar's document and its page.

    `secured`: requests need a key. `brokers`: the paths for MQTT brokers are served, with a secret of their own.
    `assets`: the address of Swagger UI's files.
    """
    schemes: dict[str, SecurityScheme | Reference] = {
        **({"key": _KEY, "session": _SESSION} if secured else {}),
        **({"broker": _BROKER} if brokers else {}),
    }
    return OpenAPIConfig(
        title="Devicestat",
        version=version("devicestat"),
        description=_DESCRIPTION,
        license=License("MIT", identifier="MIT"),
        tags=[*_TAGS, *([_BROKERS] if brokers else [])],
        components=Components(security_schemes=schemes),
        security=[{"key": []}, {"session": []}] if secured else None,
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
        render_plugins=[SwaggerPage(assets)],
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
