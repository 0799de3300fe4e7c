"""The page of Swagger UI, under a policy that allows only scripts and styles of this process.

Litestar's own page starts Swagger UI by an inline script, which a policy cannot distinguish from an injected one. This
page contains the document as data, and `start.js` reads it.
"""

from html import escape
from typing import Any

from litestar import Request, get
from litestar.datastructures import ResponseHeader
from litestar.openapi.plugins import OpenAPIRenderPlugin

from query_api.access.rules import Permission

PATH = "/docs"
START = "/docs/start.js"
POLICY = "; ".join(
    [
        "default-src 'none'", "script-src 'self'", "connect-src 'self'", "img-src 'self' data:",
        "style-src 'self'",
        "base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'",
    ]
)  # fmt: skip
HEADERS = [
    ResponseHeader("Content-Security-Policy", value=POLICY),
    ResponseHeader("Permissions-Policy", value="camera=(), geolocation=(), microphone=(), payment=(), usb=()"),
]
_PAGE = """\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="{assets}/swagger-ui.css">
<script src="{assets}/swagger-ui-bundle.js" defer></script>
<script src="{start}" defer></script>
</head>
<body>
<div id="swagger-container"></div>
<script type="application/json" id="document">{document}</script>
</body>
</html>
"""
_START = """\
SwaggerUIBundle({
  spec: JSON.parse(document.getElementById("document").textContent),
  dom_id: "#swagger-container",
  deepLinking: true,
  presets: [SwaggerUIBundle.presets.apis],
});
"""


class SwaggerPage(OpenAPIRenderPlugin):
    """Renderer of the page at the root of the documentation. `assets`: the address of Swagger UI's files."""

    def __init__(self, assets: str) -> None:
        super().__init__(path="/")
        self._assets = assets

    def render(self, request: Request[Any, Any, Any], openapi_schema: dict[str, Any]) -> bytes:
        """Return the page with the document in it."""
        document = self.render_json(request, openapi_schema).decode().replace("<", r"\u003c")  # of "</script>"
        title = escape(openapi_schema["info"]["title"])
        return _PAGE.format(title=title, assets=self._assets, start=START, document=document).encode()


@get(START, permission=Permission.PUBLIC, include_in_schema=False, media_type="text/javascript", sync_to_thread=False)
def start_script() -> str:
    """Return the script that starts Swagger UI."""
    return _START
