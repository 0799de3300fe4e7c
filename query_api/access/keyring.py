"""Find the principal of a key, a token or a session in the database, cached for less than a second.

Every process refuses a revoked key, a rotated token or an ended session within a second, without depending on
notifications. A client that sends a hundred requests per second costs one lookup per second.
"""

import asyncio
from collections.abc import Callable

import msgspec
import structlog

from query_api.access.rules import Principal, device
from query_api.access.sessions import IDLE
from shared.access.credentials import Given, GivenKey, GivenSession, GivenToken, is_same, read
from shared.postgres.connections import RETRYABLE, Connection, Pool
from shared.postgres.errors import diagnose

REMEMBERED_S = 0.9
MAX_REMEMBERED = 10_000
"""Cached credentials, including refused ones. Above this number the cache is cleared."""
NOTE_USE_S = 15.0
"""Interval at which the last use of keys and sessions is written."""

_log = structlog.get_logger()


class _Known(msgspec.Struct, frozen=True):
    """A cached lookup, and its expiry."""

    principal: Principal | None
    until: float


class Keyring:
    """The credentials of this process's requests."""

    def __init__(self, database: Pool, clock: Callable[[], float]) -> None:
        """`clock`: seconds, such as the event loop's."""
        self._database = database
        self._clock = clock
        self._known: dict[bytes, _Known] = {}
        self._asked: dict[bytes, asyncio.Task[Principal | None]] = {}
        self._used: set[int] = set()
        self._used_sessions: set[int] = set()

    async def find(self, credential: str, *, by_cookie: bool = False) -> Principal | None:
        """Return the principal of the credential; None if it is not valid.

        A session is valid only in a cookie, and nothing else is.
        """
        given = read(credential)
        if given is None or isinstance(given, GivenSession) is not by_cookie:
            return None
        known = self._known.get(given.hash)
        if known is None or known.until < self._clock():
            principal = await self._ask_once(given)
        else:
            principal = known.principal
        if principal is not None and principal.key_id is not None:
            self._used.add(principal.key_id)
        if principal is not None and principal.session_id is not None:
            self._used_sessions.add(principal.session_id)
        return principal

    def forget(self, given: Given) -> None:
        """Look the credential up again at its next use."""
        self._known.pop(given.hash, None)

    def known(self, credential: str) -> Principal | None:
        """Return the cached principal of the credential."""
        given = read(credential)
        known = self._known.get(given.hash) if given else None
        return known.principal if known and known.until >= self._clock() else None

    async def _ask_once(self, given: Given) -> Principal | None:
        """Share one lookup between concurrent requests. It continues if one of them is cancelled."""
        asked = self._asked.get(given.hash)
        if asked is None:
            asked = self._asked[given.hash] = asyncio.create_task(self._ask(given), name="credential lookup")
            asked.add_done_callback(lambda _: self._asked.pop(given.hash, None))
        return await asyncio.shield(asked)

    async def _ask(self, given: Given) -> Principal | None:
        asked_at = self._clock()
        async with self._database.connection() as connection:
            principal = await _look_up(connection, given)
        if len(self._known) >= MAX_REMEMBERED:
            self._known.clear()
        self._known[given.hash] = _Known(principal, asked_at + REMEMBERED_S)
        return principal

    async def note_use(self) -> None:
        """Write the last use of keys and sessions every NOTE_USE_S, until cancelled."""
        while True:
            await asyncio.sleep(NOTE_USE_S)
            await self.note_use_now()

    async def note_use_now(self) -> None:
        """Write the last use of the keys and sessions that were used since the last write."""
        used, self._used = self._used, set()
        sessions, self._used_sessions = self._used_sessions, set()
        if not used:
            return
        try:
            async with self._database.connection() as connection:
                await connection.execute(_NOTE_USE, (list(used),))
                await connection.execute(_NOTE_SESSIONS, (list(sessions),))
        except RETRYABLE as error:
            self._used |= used
            self._used_sessions |= sessions
            _log.warning("the last use of keys could not be written", reason=str(diagnose(error)))


async def _look_up(connection: Connection, given: Given) -> Principal | None:
    match given:
        case GivenKey():
            return await _holder_of_key(connection, given)
        case GivenToken():
            return await _device_of_token(connection, given)
        case GivenSession():
            return await _holder_of_session(connection, given)


_KEY = """
    SELECT id, hash, role FROM access_keys
    WHERE prefix = %s AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now())
"""


async def _holder_of_key(connection: Connection, given: GivenKey) -> Principal | None:
    row: tuple[int, bytes, str] | None = await (await connection.execute(_KEY, (given.prefix,))).fetchone()
    if row is None or not is_same(given.hash, row[1]):
        return None
    return Principal(given.prefix, row[2], key_id=row[0])


_TOKEN = "SELECT hash FROM device_tokens WHERE device_id = %s"  # noqa: S105  # a query


async def _device_of_token(connection: Connection, given: GivenToken) -> Principal | None:
    row: tuple[bytes] | None = await (await connection.execute(_TOKEN, (given.device_id,))).fetchone()
    return device(given.device_id) if row and is_same(given.hash, row[0]) else None


_SESSION = """
    SELECT key.prefix, key.role, key.id, session.id
    FROM sessions AS session JOIN access_keys AS key ON key.id = session.key_id
    WHERE session.hash = %s AND session.expires_at > now() AND session.last_used_at > now() - %s
      AND key.revoked_at IS NULL AND (key.expires_at IS NULL OR key.expires_at > now())
"""


async def _holder_of_session(connection: Connection, given: GivenSession) -> Principal | None:
    row = await (await connection.execute(_SESSION, (given.hash, IDLE))).fetchone()
    return None if row is None else Principal(row[0], row[1], key_id=row[2], session_id=row[3])


_NOTE_SESSIONS = "UPDATE sessions SET last_used_at = now() WHERE id = ANY(%s)"
_NOTE_USE = "UPDATE access_keys SET last_used_at = now() WHERE id = ANY(%s)"

_USABLE = """
    SELECT EXISTS (SELECT FROM access_keys
                   WHERE role = 'admin' AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now()))
"""


async def has_administrator(connection: Connection) -> bool:
    """Whether a valid admin key exists."""
    row: tuple[bool] | None = await (await connection.execute(_USABLE)).fetchone()
    return row is not None and row[0]
