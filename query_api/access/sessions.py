"""Sessions of signed-in browsers (ADR 45): rows of `sessions`, each with the key that signed in.

A session ends with its key, LASTS after its sign-in, or after IDLE without a request.
`query_api/access/keyring.py` finds the session of a request.
"""

from datetime import datetime, timedelta

import msgspec

from query_api.access.rules import Principal
from shared.access.audit import Action, Actor, record
from shared.access.credentials import GivenSession, new_session, read
from shared.postgres.connections import Connection

LASTS = timedelta(days=7)
IDLE = timedelta(hours=24)
MOST = 100
"""Sessions of one key. A sign-in beyond them ends the oldest."""


class SignedIn(msgspec.Struct, frozen=True):
    """A new session. `text`: the value of the cookie, which is not stored."""

    text: str
    expires_at: datetime

    def __repr__(self) -> str:
        return f"SignedIn(…, {self.expires_at})"


_INSERT = """
    INSERT INTO sessions (hash, key_id, expires_at)
    SELECT %(hash)s, id, least(now() + %(lasts)s, expires_at) FROM access_keys
    WHERE id = %(key_id)s AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now())
    RETURNING expires_at
"""
_END_OLDEST = """
    DELETE FROM sessions
    WHERE id IN (SELECT id FROM sessions WHERE key_id = %(key_id)s ORDER BY id DESC OFFSET %(most)s)
"""


async def sign_in(connection: Connection, principal: Principal, origin: str, *, secure: bool) -> SignedIn | None:
    """Create a session for the key. Return None if the key has ended meanwhile.

    `origin`: the client's address. `secure`: the browser uses https.
    """
    new = new_session(secure=secure)
    async with connection.transaction():
        values = {"hash": new.hash, "key_id": principal.key_id, "lasts": LASTS}
        row = await (await connection.execute(_INSERT, values)).fetchone()
        if row is None:
            return None
        await connection.execute(_END_OLDEST, {"key_id": principal.key_id, "most": MOST})
        await record(connection, Actor(principal.name, origin), Action.SIGNED_IN, f"key {principal.name}")
    return SignedIn(new.text, row[0])


_END = """
    DELETE FROM sessions USING access_keys AS key WHERE sessions.hash = %s AND key.id = key_id RETURNING key.prefix
"""


async def sign_out(connection: Connection, text: str, origin: str) -> GivenSession | None:
    """End the session with this text. Return it; None if there is none."""
    given = read(text)
    if not isinstance(given, GivenSession):
        return None
    async with connection.transaction():
        row = await (await connection.execute(_END, (given.hash,))).fetchone()
        if row is None:
            return None
        await record(connection, Actor(row[0], origin), Action.SIGNED_OUT, f"key {row[0]}")
    return given
