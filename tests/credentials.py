"""Keys for the tests: one of each role, and invalid ones."""

from datetime import UTC, datetime

import msgspec

from shared.access import keys as access_keys
from shared.access.audit import Actor
from shared.access.credentials import Role, new_key
from shared.postgres.connections import Connection

TESTER = Actor("test", "test")
_LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)


class Keys(msgspec.Struct, frozen=True):
    """Credentials for `Authorization: Bearer …`."""

    admin: str
    analyst: str
    writer: str
    revoked: str
    expired: str
    unknown: str
    other_secret: str
    """Return an existing prefix with another secret."""

    def __repr__(self) -> str:
        return "Keys(…)"


async def key(connection: Connection, role: Role) -> str:
    """Create a key of the role."""
    return (await access_keys.create(connection, TESTER, role, f"{role} of a test", None)).text


async def keys(connection: Connection) -> Keys:
    """Create a key of each role, and a device token."""
    revoked = await access_keys.create(connection, TESTER, Role.ADMIN, "revoked", None)
    await access_keys.revoke(connection, TESTER, revoked.prefix)
    expired = await access_keys.create(connection, TESTER, Role.ADMIN, "expired", _LONG_AGO)
    admin = await access_keys.create(connection, TESTER, Role.ADMIN, "admin", None)
    return Keys(
        admin=admin.text,
        analyst=await key(connection, Role.ANALYST),
        writer=await key(connection, Role.WRITER),
        revoked=revoked.text,
        expired=expired.text,
        unknown=new_key().text,
        other_secret=admin.prefix + new_key().text[len(admin.prefix) :],
    )


def bearer(credential: str) -> dict[str, str]:
    """Return the header with the key."""
    return {"Authorization": f"Bearer {credential}"}
