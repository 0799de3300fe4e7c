"""Check many credentials with one statement."""

from collections.abc import Collection, Iterable

from shared.access.credentials import Given, GivenKey, GivenSession, GivenToken, is_same, read
from shared.postgres.connections import Connection

_HOLDING = """
    SELECT prefix, NULL::bigint, hash FROM access_keys
    WHERE prefix = ANY(%(prefixes)s) AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > clock_timestamp())
    UNION ALL
    SELECT NULL, device_id, hash FROM device_tokens WHERE device_id = ANY(%(devices)s)
    UNION ALL
    SELECT NULL, NULL, session.hash FROM sessions AS session JOIN access_keys AS key ON key.id = session.key_id
    WHERE session.hash = ANY(%(sessions)s) AND session.expires_at > clock_timestamp()
      AND key.revoked_at IS NULL AND (key.expires_at IS NULL OR key.expires_at > clock_timestamp())
"""
# The last use is written by each process once a minute: a stream counts as a use.
_NOTE_USE = """
    UPDATE sessions SET last_used_at = now() WHERE hash = ANY(%(sessions)s) AND last_used_at < now() - interval '1 min'
"""


async def holding(connection: Connection, credentials: Collection[str]) -> set[str]:
    """Return the keys, tokens and sessions that are valid now."""
    given = {credential: read(credential) for credential in credentials}
    prefixes = [key.prefix for key in given.values() if isinstance(key, GivenKey)]
    devices = [token.device_id for token in given.values() if isinstance(token, GivenToken)]
    sessions = _hashes_of_sessions(given.values())
    values = {"prefixes": prefixes, "devices": devices, "sessions": sessions}
    rows = await (await connection.execute(_HOLDING, values)).fetchall()
    hashes: dict[str | int | bytes, bytes] = {
        next(name for name in (prefix, device_id, hash_) if name is not None): hash_
        for prefix, device_id, hash_ in rows
    }
    return {credential for credential, parts in given.items() if parts and _holds(parts, hashes)}


async def note_use(connection: Connection, credentials: Collection[str]) -> None:
    """Write the last use of the sessions among the credentials."""
    sessions = _hashes_of_sessions(map(read, credentials))
    if sessions:
        await connection.execute(_NOTE_USE, {"sessions": sessions})


def _hashes_of_sessions(given: Iterable[Given | None]) -> list[bytes]:
    return [one.hash for one in given if isinstance(one, GivenSession)]


def _holds(given: Given, hashes: dict[str | int | bytes, bytes]) -> bool:
    stored = hashes.get(_name(given))
    return stored is not None and is_same(given.hash, stored)


def _name(given: Given) -> str | int | bytes:
    match given:
        case GivenKey():
            return given.prefix
        case GivenToken():
            return given.device_id
        case GivenSession():
            return given.hash
