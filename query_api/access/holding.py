"""Check many credentials with one statement."""

from collections.abc import Collection

from shared.access.credentials import GivenKey, GivenToken, is_same, read
from shared.postgres.connections import Connection

_HOLDING = """
    SELECT prefix, NULL::bigint, hash FROM access_keys
    WHERE prefix = ANY(%(prefixes)s) AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > clock_timestamp())
    UNION ALL
    SELECT NULL, device_id, hash FROM device_tokens WHERE device_id = ANY(%(devices)s)
"""


async def holding(connection: Connection, credentials: Collection[str]) -> set[str]:
    """Return the keys and tokens that are valid now."""
    given = {credential: read(credential) for credential in credentials}
    prefixes = [key.prefix for key in given.values() if isinstance(key, GivenKey)]
    devices = [token.device_id for token in given.values() if isinstance(token, GivenToken)]
    rows = await (await connection.execute(_HOLDING, {"prefixes": prefixes, "devices": devices})).fetchall()
    hashes: dict[str | int, bytes] = {
        device_id if prefix is None else prefix: hash_ for prefix, device_id, hash_ in rows
    }
    return {credential for credential, parts in given.items() if parts and _holds(parts, hashes)}


def _holds(given: GivenKey | GivenToken, hashes: dict[str | int, bytes]) -> bool:
    stored = hashes.get(given.prefix if isinstance(given, GivenKey) else given.device_id)
    return stored is not None and is_same(given.hash, stored)
