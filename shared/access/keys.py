"""Access keys: creation, listing, revocation and rotation (ADR 22), for the command and the API.

Each action is written to the audit log in the same transaction. `query_api/access/keyring.py` checks keys of requests.
"""

import re
from datetime import datetime, timedelta
from enum import StrEnum
from typing import LiteralString

import msgspec
from psycopg.rows import kwargs_row

from shared.access.audit import Action, Actor, record
from shared.access.credentials import NewKey, Role, new_key
from shared.errors import LocalError
from shared.event_loop.parts import AT_ONCE_SLOW, fetched
from shared.postgres.connections import Connection

_PREFIX = re.compile(r"dsk_[a-z0-9]{8}", re.ASCII)
MAX_NAME_LENGTH = 200
NAME_RULE = f"up to {MAX_NAME_LENGTH} printable characters"


class UnknownKey(LocalError):
    """No key has this prefix."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        super().__init__(f"there is no key {prefix}: `devicestat keys list --all` lists the keys")


class KeyEnded(LocalError):
    """The key has ended, and cannot be rotated."""

    def __init__(self, key: "AccessKey") -> None:
        self.key = key
        advice = f"create one with `devicestat keys create --role {key.role}`"
        super().__init__(f"the key {key.prefix} is {key.state}, and cannot be rotated: {advice}")


class KeyState(StrEnum):
    """The state of an access key."""

    VALID = "valid"
    EXPIRED = "expired"
    REVOKED = "revoked"


class AccessKey(msgspec.Struct, frozen=True, kw_only=True):
    """An access key without its secret."""

    id: int
    prefix: str
    role: Role
    name: str
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None
    state: KeyState


def is_prefix(text: str) -> bool:
    """Return whether the text has the form of a prefix."""
    return _PREFIX.fullmatch(text) is not None


def is_name(text: str) -> bool:
    """Return whether a key may have this name (NAME_RULE)."""
    return len(text) <= MAX_NAME_LENGTH and text.isprintable()


async def create(connection: Connection, actor: Actor, role: Role, name: str, expires_at: datetime | None) -> NewKey:
    """Create a key. Only the result has its text."""
    async with connection.transaction():
        key = await _insert(connection, role, name, expires_at)
        detail = {"role": role, "name": name, "expires_at": _text(expires_at)}
        await record(connection, actor, Action.KEY_CREATED, _subject(key.prefix), **detail)
    return key


async def revoke(connection: Connection, actor: Actor, prefix: str) -> AccessKey:
    """Revoke a key, and return its former state; if that is revoked, nothing was changed. Raises UnknownKey."""
    async with connection.transaction():
        key = await _locked(connection, prefix)
        if key.state is not KeyState.REVOKED:
            await connection.execute(_REVOKE, (prefix,))
            await record(connection, actor, Action.KEY_REVOKED, _subject(prefix), role=key.role, name=key.name)
    return key


async def rotate(
    connection: Connection,
    actor: Actor,
    prefix: str,
    *,
    expires_at: datetime | None = None,
    grace: timedelta | None = None,
) -> NewKey:
    """Create a key that replaces another one, with its role, its name and, unless `expires_at` is given, its expiry.

    The old key is revoked, or expires after `grace` unless it expires sooner. Raises UnknownKey and KeyEnded.
    """
    async with connection.transaction():
        old = await _locked(connection, prefix)
        if old.state is not KeyState.VALID:
            raise KeyEnded(old)
        new = await create(connection, actor, old.role, old.name, expires_at or old.expires_at)
        if grace is None:
            await connection.execute(_REVOKE, (prefix,))
        else:
            await connection.execute(_EXPIRE, (grace, prefix))
        detail = {"new_key": new.prefix, "grace_s": grace and grace.total_seconds()}
        await record(connection, actor, Action.KEY_ROTATED, _subject(prefix), **detail)
    return new


_SELECT = """
    SELECT id, prefix, role, name, created_at, expires_at, revoked_at, last_used_at,
           CASE WHEN revoked_at IS NOT NULL THEN 'revoked' WHEN expires_at <= now() THEN 'expired' ELSE 'valid' END
               AS state
    FROM access_keys
"""
_ALL = _SELECT + "ORDER BY created_at, id"


async def all_keys(connection: Connection) -> list[AccessKey]:
    """Return all keys, oldest first. The worker deletes keys that ended more than 400 days ago."""
    async with connection.cursor(row_factory=kwargs_row(_read)) as cursor:
        await cursor.execute(_ALL)
        return await cursor.fetchall()


_LISTED = "SELECT * FROM (" + _SELECT + ") AS key WHERE id < %(before)s"  # noqa: S608  # composed of constants
_IN_STATE = _LISTED + " AND state = %(state)s"
_NEWEST_FIRST = " ORDER BY id DESC LIMIT %(limit)s"


async def select(connection: Connection, state: KeyState | None, before: int, limit: int) -> list[AccessKey]:
    """Return keys with ids below `before`, newest first. `state`: None for all."""
    query = (_LISTED if state is None else _IN_STATE) + _NEWEST_FIRST
    async with connection.cursor(row_factory=kwargs_row(_read)) as cursor:
        await cursor.execute(query, {"state": state, "before": before, "limit": limit})
        return await fetched(cursor, AT_ONCE_SLOW)


_ONE = _SELECT + "WHERE prefix = %s"


async def one(connection: Connection, prefix: str) -> AccessKey:
    """Return the key with the prefix. Raises UnknownKey."""
    return await _found(connection, _ONE, prefix)


_LOCKED = _SELECT + "WHERE prefix = %s FOR UPDATE"


async def _locked(connection: Connection, prefix: str) -> AccessKey:
    return await _found(connection, _LOCKED, prefix)


async def _found(connection: Connection, query: LiteralString, prefix: str) -> AccessKey:
    async with connection.cursor(row_factory=kwargs_row(_read)) as cursor:
        await cursor.execute(query, (prefix,))
        key = await cursor.fetchone()
    if key is None:
        raise UnknownKey(prefix)
    return key


_INSERT = """
    INSERT INTO access_keys (prefix, hash, role, name, expires_at) VALUES (%s, %s, %s, %s, %s)
    ON CONFLICT (prefix) DO NOTHING
"""


async def _insert(connection: Connection, role: Role, name: str, expires_at: datetime | None) -> NewKey:
    while True:
        key = new_key()
        cursor = await connection.execute(_INSERT, (key.prefix, key.hash, role, name, expires_at))
        if cursor.rowcount == 1:  # else another key has this prefix
            return key


_REVOKE = "UPDATE access_keys SET revoked_at = now() WHERE prefix = %s"
_EXPIRE = "UPDATE access_keys SET expires_at = least(expires_at, now() + %s) WHERE prefix = %s"


def _read(**columns: object) -> AccessKey:
    return msgspec.convert(columns, AccessKey)


def _subject(prefix: str) -> str:
    return f"key {prefix}"


def _text(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()
