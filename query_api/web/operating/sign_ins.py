"""Limits on attempts to sign in, and the records of refused ones in the audit log, of bounded number.

Both are per process. A key has 256 random bits and cannot be guessed; the limits bound the load on the database, and
the rows that a client without a key can add.
"""

from collections.abc import Callable

from query_api.web.answers import problems
from query_api.web.answers.problems import Refused
from query_api.web.limits.window import Window
from shared.access.audit import Action, Actor, record
from shared.access.credentials import GivenKey, read
from shared.postgres.connections import Connection

WINDOW_S = 60.0
ATTEMPTS = 20
"""Attempts of one address in a window."""
RECORDED = 20
"""Refused attempts of all addresses that are recorded in a window: the first of each address. Others are counted."""
_ALL = ""


class SignIns:
    """The attempts to sign in to this process."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """`clock`: seconds, such as the event loop's."""
        self._attempts = Window(WINDOW_S, clock)
        self._recorded = Window(WINDOW_S, clock)
        self._unrecorded = 0

    def require_place(self, address: str) -> None:
        """Count an attempt. Raises Refused beyond ATTEMPTS."""
        if self._attempts.add(address) > ATTEMPTS:
            wait = self._attempts.ends_in
            detail = f"{ATTEMPTS} attempts a minute to sign in from one address are allowed: retry in {wait} seconds"
            raise Refused(problems.TOO_MANY_REQUESTS, detail, headers={"Retry-After": str(wait)})

    async def record_refusal(self, connection: Connection, text: str, address: str) -> None:
        """Record a refused attempt, or count it for the next record. Of a key only its prefix is recorded."""
        if self._recorded.add(address) > 1 or self._recorded.add(_ALL) > RECORDED:
            self._unrecorded += 1
            return
        omitted, self._unrecorded = self._unrecorded, 0
        given = read(text)
        subject = f"key {given.prefix}" if isinstance(given, GivenKey) else "no key"
        await record(connection, Actor("unknown", address), Action.SIGN_IN_REFUSED, subject, unrecorded_before=omitted)
