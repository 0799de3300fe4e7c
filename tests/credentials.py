"""Keys for the tests: one of each kind, and what nobody may come in with."""

from datetime import UTC, datetime

import msgspec

from shared.access import keys as access_keys
from shared.access.audit import Actor
from shared.access.credentials import Role, new_key
from shared.postgres.connections import Connection

TESTER = Actor("test", "test")
_LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)


class Keys(msgspec.Struct, frozen=True):
    """What is shown as `Authorization: Bearer …`."""

    admin: str
    analyst: str
    writer: str
    revoked: str
    expired: str
    unknown: str
    other_secret: str
    """A prefix that is there, with what does not belong to it."""

    def __repr__(self) -> str:
        return "Keys(…)"


async def key(connection: Connection, role: Role) -> str:
    """A new key of the role."""
    return (await access_keys.create(connection, TESTER, role, f"{role} of a test", None)).text


async def keys(connection: Connection) -> Keys:
    """One of each kind."""
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
    """The header that shows it."""
    return {"Authorization": f"Bearer {credential}"}
