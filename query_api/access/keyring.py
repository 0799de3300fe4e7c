"""Find the principal of a key or token in the database, cached for less than a second.

Every process refuses a revoked key or a rotated token within a second, without depending on notifications. A client
that sends a hundred requests per second costs one lookup per second.
"""

import asyncio
from collections.abc import Callable

import msgspec
import structlog

from query_api.access.rules import Principal, device
from shared.access.credentials import GivenKey, GivenToken, is_same, read
from shared.postgres.connections import RETRYABLE, Connection, Pool
from shared.postgres.errors import diagnose

REMEMBERED_S = 0.9
MAX_REMEMBERED = 10_000
"""Cached credentials, including refused ones. Above this number the cache is cleared."""
NOTE_USE_S = 15.0
"""Interval at which the last use of keys is written."""

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

    async def find(self, credential: str) -> Principal | None:
        """Return the principal of the credential; None if it is not valid."""
        given = read(credential)
        if given is None:
            return None
        known = self._known.get(given.hash)
        if known is None or known.until < self._clock():
            principal = await self._ask_once(given)
        else:
            principal = known.principal
        if principal is not None and principal.key_id is not None:
            self._used.add(principal.key_id)
        return principal

    def known(self, credential: str) -> Principal | None:
        """Return the cached principal of the credential."""
        given = read(credential)
        known = self._known.get(given.hash) if given else None
        return known.principal if known and known.until >= self._clock() else None

    async def _ask_once(self, given: GivenKey | GivenToken) -> Principal | None:
        """Share one lookup between concurrent requests. It continues if one of them is cancelled."""
        asked = self._asked.get(given.hash)
        if asked is None:
            asked = self._asked[given.hash] = asyncio.create_task(self._ask(given), name="credential lookup")
            asked.add_done_callback(lambda _: self._asked.pop(given.hash, None))
        return await asyncio.shield(asked)

    async def _ask(self, given: GivenKey | GivenToken) -> Principal | None:
        asked_at = self._clock()
        async with self._database.connection() as connection:
            look_up = _holder_of_key if isinstance(given, GivenKey) else _device_of_token
            principal = await look_up(connection, given)  # type: ignore[arg-type]
        if len(self._known) >= MAX_REMEMBERED:
            self._known.clear()
        self._known[given.hash] = _Known(principal, asked_at + REMEMBERED_S)
        return principal

    async def note_use(self) -> None:
        """Write the last use of keys every NOTE_USE_S, until cancelled."""
        while True:
            await asyncio.sleep(NOTE_USE_S)
            await self.note_use_now()

    async def note_use_now(self) -> None:
        """Write the last use of the keys that were used since the last write."""
        used, self._used = self._used, set()
        if not used:
            return
        try:
            async with self._database.connection() as connection:
                await connection.execute(_NOTE_USE, (list(used),))
        except RETRYABLE as error:
            self._used |= used
            _log.warning("the last use of keys could not be written", reason=str(diagnose(error)))


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


_NOTE_USE = "UPDATE access_keys SET last_used_at = now() WHERE id = ANY(%s)"

_USABLE = """
    SELECT EXISTS (SELECT FROM access_keys
                   WHERE role = 'admin' AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now()))
"""


async def has_administrator(connection: Connection) -> bool:
    """Whether a valid admin key exists."""
    row: tuple[bool] | None = await (await connection.execute(_USABLE)).fetchone()
    return row is not None and row[0]
