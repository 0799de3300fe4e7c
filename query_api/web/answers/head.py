"""Respond to HEAD as to GET, without the content (RFC 9110 section 9.3.2)."""

import asyncio
from typing import cast

from litestar.enums import ScopeType
from litestar.types import ASGIApp, HTTPDisconnectEvent, HTTPReceiveMessage, Message, Receive, Scope, Send

_STATE = "head"


def is_head(scope: Scope) -> bool:
    """Whether the request is a HEAD, which the application sees as a GET."""
    return _STATE in scope["state"]


class HeadRequests:
    """Passes each HEAD to the application as a GET."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_allowing_head(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [_with_head(name, value) for name, value in message["headers"]]
            await send(message)

        answered = asyncio.Event()

        async def send_head(message: Message) -> None:
            if message["type"] == "http.response.start":
                await send_allowing_head(message)
                answered.set()

        async def gone_once_answered() -> HTTPReceiveMessage:
            # A disconnect ends a stream, as its content is not sent.
            asked = asyncio.ensure_future(receive())
            until_answered = asyncio.create_task(answered.wait(), name="answered")
            await asyncio.wait({asked, until_answered}, return_when=asyncio.FIRST_COMPLETED)
            until_answered.cancel()
            if asked.done():
                return cast("HTTPReceiveMessage", asked.result())
            asked.cancel()
            return HTTPDisconnectEvent(type="http.disconnect")

        if scope["type"] != ScopeType.HTTP or scope["method"] != "HEAD":
            await self._app(scope, receive, send_allowing_head)
            return
        state = {**scope.get("state", {}), _STATE: True}
        await self._app(cast("Scope", {**scope, "method": "GET", "state": state}), gone_once_answered, send_head)
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def _with_head(name: bytes, value: bytes) -> tuple[bytes, bytes]:
    methods = value.split(b", ")
    if name.lower() == b"allow" and b"GET" in methods and b"HEAD" not in methods:
        return name, b", ".join([*methods, b"HEAD"])
    return name, value
