"""The page of the dashboard: one document for all screens. Its scripts read the path."""

import gzip

from litestar import Response, get
from litestar.handlers import HTTPRouteHandler
from litestar.response import Redirect
from litestar.status_codes import HTTP_307_TEMPORARY_REDIRECT

from query_api.access.rules import Permission
from query_api.dashboard import vendored
from query_api.dashboard.assets import STATIC, STYLE, Assets, accepts_gzip
from query_api.web.answers.problems import AnyRequest
from query_api.web.answers.vary import depends_on
from query_api.web.requests.known_parameters import ANY_PARAMETERS

SCREENS = (
    "/",
    "/ui/devices/{device_id:int}",
    "/ui/live",
    "/ui/compare",
    "/ui/analyses",
    "/ui/schedules",
    "/ui/refused",
    "/ui/health",
    "/ui/keys",
    "/ui/sign-in",
)
"""The paths of the screens, as in static/router.js (tests/dashboard/test_shell.py). Other paths are not found."""
POLICY = "; ".join(
    [
        "default-src 'none'", "script-src 'self'", "style-src 'self'", "connect-src 'self'", "img-src 'self' data:",
        "base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'",
    ]
)  # fmt: skip
HEADERS = {
    "Content-Security-Policy": POLICY,
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    "Cache-Control": "no-cache",
}
_FIRST = (f"{STATIC}/main.js", f"{STATIC}/screens/devices.js")
"""Loaded with the page, with all that they import. The other screens are loaded when they are opened."""
_PAGE = """\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="description" content="Devicestat: device readings, and exact figures over any period">
<title>Devicestat</title>
<link rel="icon" type="image/svg+xml" href="{icon}">
<link rel="stylesheet" href="{style}">
<script src="{theme}"></script>
{preloads}
<script defer src="{uplot}"></script>
<script type="module" src="{main}"></script>
</head>
<body>
<noscript><p class="no-script">This page needs JavaScript, which is off in this browser. The API works without it:
<a href="/openapi.json">/openapi.json</a> describes it, and <a href="/devices">/devices</a> lists the devices.</p>
</noscript>
<div id="app"></div>
</body>
</html>
"""


def page_of(assets: Assets) -> bytes:
    """Return the page."""
    scripts = [path for path in assets.with_imports(*_FIRST) if path != _FIRST[0]]
    preloads = [f'<link rel="modulepreload" href="{assets.address(path)}">' for path in scripts]
    return _PAGE.format(
        icon=assets.address(f"{STATIC}/icon.svg"),
        style=assets.address(STYLE),
        theme=assets.address(f"{STATIC}/theme.js"),
        uplot=assets.address(f"{vendored.UPLOT}/uPlot.iife.min.js"),
        preloads="\n".join(preloads),
        main=assets.address(f"{STATIC}/main.js"),
    ).encode()


def routes(assets: Assets) -> list[HTTPRouteHandler]:
    """Return the routes of the page: one for each screen."""
    page = page_of(assets)
    compressed = gzip.compress(page, mtime=0)

    @get(
        list(SCREENS),
        permission=Permission.PUBLIC,
        include_in_schema=False,
        sync_to_thread=False,
        media_type="text/html",
        opt={ANY_PARAMETERS: True},  # the scripts read the query
    )
    def show_page(request: AnyRequest) -> Response[bytes]:
        depends_on(request, "Accept-Encoding")
        if accepts_gzip(request.headers.getall("accept-encoding", [])):
            return Response(compressed, media_type="text/html", headers={**HEADERS, "Content-Encoding": "gzip"})
        return Response(page, media_type="text/html", headers=HEADERS)

    @get(["/ui", "/ui/devices"], permission=Permission.PUBLIC, include_in_schema=False, sync_to_thread=False)
    def show_devices() -> Redirect:
        return Redirect("/", status_code=HTTP_307_TEMPORARY_REDIRECT)

    return [show_page, show_devices]
