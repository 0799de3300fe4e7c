"""Tokens of devices: made in the transaction that registers a device or rotates its token.

A token is in one answer, and nowhere else. With DEVICE_SECRET the broker is told of it, too: that it is to be told
stands in the outbox (ADR 23), written in the same transaction.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated

import msgspec

from shared.access.credentials import new_token
from shared.broker import outbox
from shared.broker.names import device_name
from shared.broker.outbox import Change
from shared.postgres.connections import Connection

ShownToken = Annotated[
    str,
    msgspec.Meta(
        description="What it shows to publish, as its password at the broker, or to store readings here, as "
        "`Authorization: Bearer …`. It is shown this once.",
        examples=["dst_1_Zm9vYmFyYmF6cXV4Zm9vYmFyYmF6cXV4Zm9vYmFyYmE"],
    ),
]
ShownUsername = Annotated[
    str,
    msgspec.Meta(
        description="Its user name and its client id at a broker that Devicestat administers: device-<id>, or its key "
        "where BROKER_PASSWORDS is set.",
        examples=["device-1"],
    ),
]


class IssuedToken(msgspec.Struct, frozen=True, kw_only=True):
    """A device's new token."""

    device_id: Annotated[int, msgspec.Meta(description="The device's number.", examples=[1])]
    token: ShownToken
    mqtt_username: ShownUsername


# Hashes as text: psycopg takes 20 ms to write a thousand bytea into an array.
_KEEP = """
    INSERT INTO device_tokens (device_id, hash, nonce)
    SELECT device_id, decode(hash, 'hex'), decode(nonce, 'hex')
    FROM unnest(%(devices)s::bigint[], %(hashes)s::text[], %(nonces)s::text[]) AS made (device_id, hash, nonce)
    ON CONFLICT (device_id) DO UPDATE
        SET hash = excluded.hash, nonce = excluded.nonce, created_at = now(), connected = false
"""


class Tokens(msgspec.Struct, frozen=True):
    """Makes tokens. `secret`: DEVICE_SECRET. `administered`: somebody tells the broker of them.

    `by_key`: user names at the broker are keys, as in a password file, and not numbers.
    """

    secret: str | None
    administered: bool
    by_key: bool = False

    def __repr__(self) -> str:
        return "Tokens(…)"

    async def issue(self, connection: Connection, device_id: int, key: str) -> IssuedToken:
        """A token in place of the device's former one, in the transaction that the caller has open."""
        issued = await self._issue(connection, {device_id: key})
        await self.tell_broker(connection, [device_id], Change.REVOCATION)
        return issued[0]

    async def issue_all(self, connection: Connection, devices: Mapping[int, str]) -> list[IssuedToken]:
        """A token for each of the devices, which are new, in the transaction that the caller has open.

        `devices`: the key of each number.
        """
        issued = await self._issue(connection, devices)
        await self.tell_broker(connection, [*devices], Change.REGISTRATION)
        return issued

    async def _issue(self, connection: Connection, devices: Mapping[int, str]) -> list[IssuedToken]:
        made = [new_token(device_id, self.secret) for device_id in devices]
        hashes = [token.hash.hex() for token in made]
        nonces = [None if token.nonce is None else token.nonce.hex() for token in made]
        await connection.execute(_KEEP, {"devices": [*devices], "hashes": hashes, "nonces": nonces})
        return [
            IssuedToken(
                device_id=device_id, token=token.text, mqtt_username=key if self.by_key else device_name(device_id)
            )
            for (device_id, key), token in zip(devices.items(), made, strict=True)
        ]

    async def tell_broker(self, connection: Connection, device_ids: Sequence[int], change: Change) -> None:
        """Have the broker told, soon after the caller's transaction, of what the devices now are."""
        if self.administered:
            await outbox.queue(connection, device_ids, change)
