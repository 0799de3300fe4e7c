"""The right of a download to send: its place among the streams, and a credential that stays valid (ADR 30)."""

import asyncio
import math
import time

import structlog
from litestar.types import Scope

from query_api.access.confirming import Credentials
from query_api.access.rules import ANYBODY
from query_api.access.shown import shown
from query_api.web.answers import problems
from query_api.web.answers.problems import Refused
from query_api.web.disconnect import ClientGone
from query_api.web.gate import unauthenticated
from query_api.web.limits.turns import Place
from shared.serving.cutting import cut

_CANCELLED_WITHIN_S = 1.0
"""Time in which the server cancels the response of a connection that was cut."""
_log = structlog.get_logger()


class Permit:
    """The right of one download to send.

    When its credential is lost, the connection is cut, so that the client sees that the content is incomplete. Before
    the response begins, the request is refused instead.
    """

    def __init__(self, scope: Scope, place: Place, credentials: Credentials) -> None:
        """`scope`: of the request. The caller must call `free`."""
        given = None if scope["auth"] is ANYBODY else shown(scope["headers"], scope["scheme"])
        self.credential = None if given is None else given.text
        self.confirmed_until = math.inf if given is None else time.monotonic()
        self._scope = scope
        self._place = place
        self._credentials = credentials
        self._refusal: Refused | None = None
        self._is_answered = False
        self._changed = asyncio.Event()
        credentials.add(self)

    def free(self) -> None:
        """Give the place to the next request, and check the credential no more. It may be called twice."""
        self._credentials.remove(self)
        self._place.free()

    def begin_response(self) -> None:
        """Record that the response begins: from now on, the loss of the credential cuts the connection."""
        self._is_answered = True

    async def confirmed(self) -> None:
        """Wait until the credential is confirmed. Raises Refused if it is lost, or ClientGone after the cut."""
        while self._refusal is None and time.monotonic() >= self.confirmed_until:
            self._changed.clear()
            await self._changed.wait()
        if self._refusal is None:
            return
        if not self._is_answered:
            raise self._refusal
        await asyncio.sleep(_CANCELLED_WITHIN_S)
        raise ClientGone

    def confirm(self, until: float) -> None:
        """Let the download send until this time of time.monotonic."""
        self.confirmed_until = until
        self._changed.set()

    def lose(self) -> None:
        """End the download: its key or session is not valid any more."""
        self._end("its key or session has ended", unauthenticated("the key or the session has ended", "invalid_token"))

    def interrupt(self) -> None:
        """End the download: its credential could not be checked."""
        detail = f"the key could not be checked: retry in {problems.RETRY_AFTER_S} seconds"
        refusal = Refused(problems.UNAVAILABLE, detail, headers=problems.RETRY_AFTER)
        self._end("its key could not be checked", refusal)

    def _end(self, why: str, refusal: Refused) -> None:
        self._refusal = refusal
        self._credentials.remove(self)
        self._changed.set()
        if self._is_answered:
            _log.warning("a download was ended", reason=why, path=self._scope["path"])
            cut(self._scope)
