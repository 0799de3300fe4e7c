"""Paths such as `/stats/7.csv`, which equals `/stats/7?format=csv`, for clients that cannot set Accept."""

import re
from typing import cast

from litestar.enums import ScopeType
from litestar.types import ASGIApp, Receive, Scope, Send

from query_api.readings.formats.negotiation import BY_NAME

_WITH_SUFFIX = re.compile(rf"(/stats/[0-9]+)\.({'|'.join(BY_NAME)})/?")


class FormatSuffixes:
    """Passes the suffix of a path to the application as the parameter `format`."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        found = _WITH_SUFFIX.fullmatch(scope["path"]) if scope["type"] == ScopeType.HTTP else None
        if found is not None:
            path, name = found.groups()
            query = b"&".join(filter(None, [scope["query_string"], b"format=" + name.encode()]))
            scope = cast("Scope", {**scope, "path": path, "raw_path": path.encode(), "query_string": query})
        await self._app(scope, receive, send)
