"""Limits on attempts to sign in, and the records of refused ones in the audit log, of bounded number.

Both are per process. A key has 256 random bits and cannot be guessed; the limits bound the load on the database, and
the rows that a client without a key can add.
"""

from collections.abc import Callable

from query_api.web.answers import problems
from query_api.web.answers.problems import Refused
from query_api.web.limits.window import Window
from shared.access.audit import Action, Actor, record
from shared.access.credentials import Given, GivenKey, read
from shared.postgres.connections import Connection

WINDOW_S = 60.0
ATTEMPTS = 20
"""Refused attempts of one address in a window."""
ATTEMPTS_OF_KEY = 5
BEYOND = 600
"""Beyond ATTEMPTS, an address that several people share may still try each key a few times; all addresses together."""
RECORDED = 20
"""Refused attempts of all addresses that are recorded in a window: the first of each address. Others are counted."""
_ALL = ""


class SignIns:
    """The attempts to sign in to this process."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """`clock`: seconds, such as the event loop's."""
        self._attempts = Window(WINDOW_S, clock)
        self._of_keys = Window(WINDOW_S, clock)
        self._recorded = Window(WINDOW_S, clock)
        self._unrecorded = 0

    def require_place(self, address: str, text: str) -> None:
        """Count an attempt with this text as refused. Raises Refused beyond the limits."""
        if self._attempts.add(address) <= ATTEMPTS or self._has_place_of_its_own(read(text)):
            return
        self._unrecorded += 1
        wait = self._attempts.ends_in
        detail = f"{ATTEMPTS} attempts to sign in from this address were refused in a minute: retry in {wait} seconds"
        raise Refused(problems.TOO_MANY_REQUESTS, detail, headers={"Retry-After": str(wait)})

    def _has_place_of_its_own(self, given: Given | None) -> bool:
        if not isinstance(given, GivenKey) or self._of_keys.add(_ALL) > BEYOND:
            return False
        return self._of_keys.add(given.prefix) <= ATTEMPTS_OF_KEY

    def note_success(self, address: str, text: str) -> None:
        """Do not count an attempt that was counted."""
        self._attempts.take_back(address)
        if isinstance(given := read(text), GivenKey):
            self._of_keys.take_back(given.prefix)

    async def record_refusal(self, connection: Connection, text: str, address: str) -> None:
        """Record a refused attempt, or count it for the next record. Of a key only its prefix is recorded."""
        if self._recorded.add(address) > 1 or self._recorded.add(_ALL) > RECORDED:
            self._unrecorded += 1
            return
        omitted, self._unrecorded = self._unrecorded, 0
        given = read(text)
        subject = f"key {given.prefix}" if isinstance(given, GivenKey) else "no key"
        await record(connection, Actor("unknown", address), Action.SIGN_IN_REFUSED, subject, unrecorded_before=omitted)
