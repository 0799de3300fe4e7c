"""Credentials of devices for the broker, from the database."""

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
    "DEVICESTAT_DEVICE_SECRET is not set: the devices' tokens for the broker are "
    "made from it. Set it to at least 32 characters, for example the output of `openssl rand -hex 32`"
)


def device_secret(settings: Settings) -> str:
    """Return DEVICE_SECRET, from which tokens are derived. Raises SettingsError if it is not set."""
    if settings.device_secret is None:
        raise SettingsError([_UNKEYED])
    return settings.device_secret


class DeviceCredential(msgspec.Struct, frozen=True):
    """A device that has a token. `token` is None if it cannot be derived again."""

    id: int
    key: str
    hash: bytes
    token: str | None

    @property
    def fingerprint(self) -> str:
        """Text that identifies the token on the broker and does not disclose it."""
        return f"token {hashlib.sha256(self.hash).hexdigest()[:16]}"

    def __repr__(self) -> str:
        return f"DeviceCredential({self.id})"


_OF = """
    SELECT d.id, d.key, t.hash, t.nonce FROM devices AS d JOIN device_tokens AS t ON t.device_id = d.id
    WHERE d.id = ANY(%s)
"""


async def credentials_of(connection: Connection, device_ids: Sequence[int], secret: str) -> dict[int, DeviceCredential]:
    """Return the credentials of the devices with these ids; devices without a token are left out."""
    rows = await (await connection.execute(_OF, (list(device_ids),))).fetchall()
    return await asyncio.to_thread(_by_id, rows, secret)


def _by_id(rows: Sequence[TupleRow], secret: str) -> dict[int, DeviceCredential]:
    return {row[0]: _device(row, secret) for row in rows}


_AFTER = """
    SELECT d.id, d.key, t.hash, t.nonce FROM devices AS d JOIN device_tokens AS t ON t.device_id = d.id
    WHERE d.id > %s ORDER BY d.id LIMIT %s
"""


async def all_credentials(connection: Connection, secret: str) -> AsyncIterator[DeviceCredential]:
    """Return the credentials of all devices that have a token, in the order of their ids."""
    last = 0
    while rows := await (await connection.execute(_AFTER, (last, PAGE))).fetchall():
        for row in rows:
            yield _device(row, secret)
        last = rows[-1][0]


def _device(row: TupleRow, secret: str) -> DeviceCredential:
    device_id, key, kept, nonce = row
    token = None if nonce is None else derived_token(device_id, nonce, secret)
    if token is not None and not is_same(digest(token), kept):
        token = None  # derived from another secret
    return DeviceCredential(device_id, key, kept, token)
