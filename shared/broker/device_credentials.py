"""How the devices are now: which of them may connect to the broker, and with what token."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Sequence

import msgspec
from psycopg.rows import TupleRow

from shared.access.credentials import derived_token, digest, is_same
from shared.errors import SettingsError
from shared.postgres.connections import Connection
from shared.settings import Settings

PAGE = 1000
_UNKEYED = (
    "DEVICESTAT_DEVICE_SECRET is not set: the tokens that the broker is told are "
    "made from it. Set it to at least 32 characters, such as `openssl rand -hex 32` gives"
)


def device_secret(settings: Settings) -> str:
    """DEVICE_SECRET, without which the broker cannot be told any token. Raises SettingsError."""
    if settings.device_secret is None:
        raise SettingsError([_UNKEYED])
    return settings.device_secret


class DeviceCredential(msgspec.Struct, frozen=True):
    """A device that has a token. `token` is None where it cannot be made again."""

    id: int
    key: str
    hash: bytes
    token: str | None

    @property
    def fingerprint(self) -> str:
        """By which the broker's copy of a token is told from another; nothing can be had from it."""
        return f"token {hashlib.sha256(self.hash).hexdigest()[:16]}"

    def __repr__(self) -> str:
        return f"DeviceCredential({self.id})"


_OF = """
    SELECT d.id, d.key, t.hash, t.nonce FROM devices AS d JOIN device_tokens AS t ON t.device_id = d.id
    WHERE d.id = ANY(%s)
"""


async def credentials_of(connection: Connection, numbers: Sequence[int], secret: str) -> dict[int, DeviceCredential]:
    """Those of the devices that are there and have a token."""
    rows = await (await connection.execute(_OF, (list(numbers),))).fetchall()
    return await asyncio.to_thread(_by_number, rows, secret)


def _by_number(rows: Sequence[TupleRow], secret: str) -> dict[int, DeviceCredential]:
    return {row[0]: _device(row, secret) for row in rows}


_AFTER = """
    SELECT d.id, d.key, t.hash, t.nonce FROM devices AS d JOIN device_tokens AS t ON t.device_id = d.id
    WHERE d.id > %s ORDER BY d.id LIMIT %s
"""


async def all_credentials(connection: Connection, secret: str) -> AsyncIterator[DeviceCredential]:
    """All devices that have a token, by their numbers."""
    last = 0
    while rows := await (await connection.execute(_AFTER, (last, PAGE))).fetchall():
        for row in rows:
            yield _device(row, secret)
        last = rows[-1][0]


def _device(row: TupleRow, secret: str) -> DeviceCredential:
    number, key, kept, nonce = row
    token = None if nonce is None else derived_token(number, nonce, secret)
    if token is not None and not is_same(digest(token), kept):
        token = None  # made with another secret
    return DeviceCredential(number, key, kept, token)
