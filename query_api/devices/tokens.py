"""Tokens of devices, created in the transaction that registers a device or rotates its token.

A token appears in one response only. Where Devicestat administers the broker, the same transaction adds the device to
the outbox (ADR 23), from which the broker gets its credentials.
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
        description="Password at the broker, and bearer token for `POST /stats`. It is shown only once.",
        examples=["dst_1_Zm9vYmFyYmF6cXV4Zm9vYmFyYmF6cXV4Zm9vYmFyYmE"],
    ),
]
ShownUsername = Annotated[
    str,
    msgspec.Meta(
        description="User name and client id at a broker that Devicestat administers: device-<id>, or the key if "
        "BROKER_PASSWORDS is set.",
        examples=["device-1"],
    ),
]


class IssuedToken(msgspec.Struct, frozen=True, kw_only=True):
    """A device's new token."""

    device_id: Annotated[int, msgspec.Meta(description="Id of the device.", examples=[1])]
    token: ShownToken
    mqtt_username: ShownUsername


# Hashes are passed as text: psycopg takes 20 ms to write a thousand bytea into an array.
_KEEP = """
    INSERT INTO device_tokens (device_id, hash, nonce)
    SELECT device_id, decode(hash, 'hex'), decode(nonce, 'hex')
    FROM unnest(%(devices)s::bigint[], %(hashes)s::text[], %(nonces)s::text[]) AS made (device_id, hash, nonce)
    ON CONFLICT (device_id) DO UPDATE
        SET hash = excluded.hash, nonce = excluded.nonce, created_at = now(), connected = false
"""


class Tokens(msgspec.Struct, frozen=True):
    """Creates tokens. `secret`: DEVICE_SECRET. `administered`: Devicestat administers the broker.

    `by_key`: user names at the broker are keys, as in a password file, not ids.
    """

    secret: str | None
    administered: bool
    by_key: bool = False

    def __repr__(self) -> str:
        return "Tokens(…)"

    async def issue(self, connection: Connection, device_id: int, key: str) -> IssuedToken:
        """Replace the device's token, in the caller's transaction."""
        issued = await self._issue(connection, {device_id: key})
        await self.queue_for_broker(connection, [device_id], Change.REVOCATION)
        return issued[0]

    async def issue_all(self, connection: Connection, devices: Mapping[int, str]) -> list[IssuedToken]:
        """Create a token for each new device, in the caller's transaction. `devices`: the key by id."""
        issued = await self._issue(connection, devices)
        await self.queue_for_broker(connection, [*devices], Change.REGISTRATION)
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

    async def queue_for_broker(self, connection: Connection, device_ids: Sequence[int], change: Change) -> None:
        """Add the devices to the broker's outbox, in the caller's transaction."""
        if self.administered:
            await outbox.queue(connection, device_ids, change)
