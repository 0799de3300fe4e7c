"""Keys of people and tools, and tokens of devices: how they are made, and how they are read (ADR 22).

    dsk_k3v9q2xm_4fXz…   a key: eight characters that may be shown, and 256 random bits
    dst_7_9sLw…          the token of device 7: 256 bits

The database has the SHA-256 of each. That is enough for what is random and 256 bits long: a slow hash is for
passwords that people think of.
"""

import base64
import hashlib
import hmac
import re
import secrets
from enum import StrEnum

import msgspec

BYTES = 32
"""Of each secret part: 256 bits."""
NONCE_BYTES = 16
PREFIX_LENGTH = len("dsk_") + 8
_ALPHABET = "abcdefghjkmnpqrstuvwxyz23456789"
"""Of a prefix: characters that are not taken for each other."""
_KEY = re.compile(r"(dsk_[a-z0-9]{8})_[A-Za-z0-9_-]{43}", re.ASCII)
_TOKEN = re.compile(r"dst_([1-9][0-9]{0,18})_[A-Za-z0-9_-]{43}", re.ASCII)
_MAX_ID = 2**63 - 1


class Role(StrEnum):
    """What the holder of a key may do."""

    ADMIN = "admin"
    """Everything."""
    ANALYST = "analyst"
    """Read, and queue analyses."""
    WRITER = "writer"
    """Store readings."""


class NewKey(msgspec.Struct, frozen=True):
    """A key that was just made. `text` is shown once and kept nowhere."""

    text: str
    prefix: str
    hash: bytes

    def __repr__(self) -> str:
        return f"NewKey({self.prefix})"


class NewToken(msgspec.Struct, frozen=True):
    """A device's token that was just made. `text` is shown once and kept nowhere."""

    text: str
    hash: bytes
    nonce: bytes | None

    def __repr__(self) -> str:
        return "NewToken(…)"


class GivenKey(msgspec.Struct, frozen=True):
    """What was shown as a key."""

    prefix: str
    hash: bytes


class GivenToken(msgspec.Struct, frozen=True):
    """What was shown as a device's token."""

    device_id: int
    hash: bytes


def new_key() -> NewKey:
    """A key of 256 random bits."""
    prefix = "dsk_" + "".join(secrets.choice(_ALPHABET) for _ in range(8))
    text = f"{prefix}_{_encoded(secrets.token_bytes(BYTES))}"
    return NewKey(text, prefix, digest(text))


def new_token(device_id: int, secret: str | None) -> NewToken:
    """A token for the device: from the secret and a nonce, so that it can be made again; without a secret at random."""
    if secret is None:
        text = _token(device_id, secrets.token_bytes(BYTES))
        return NewToken(text, digest(text), None)
    nonce = secrets.token_bytes(NONCE_BYTES)
    text = derived_token(device_id, nonce, secret)
    return NewToken(text, digest(text), nonce)


def derived_token(device_id: int, nonce: bytes, secret: str) -> str:
    """The device's token of this nonce: HMAC-SHA256 (RFC 2104) of both under the secret."""
    message = b"devicestat device token\0" + device_id.to_bytes(8) + nonce
    return _token(device_id, hmac.digest(secret.encode(), message, "sha256"))


def read(text: str) -> GivenKey | GivenToken | None:
    """What the text may be; None where it has the form of neither."""
    if key := _KEY.fullmatch(text):
        return GivenKey(key[1], digest(text))
    if (token := _TOKEN.fullmatch(text)) and int(token[1]) <= _MAX_ID:
        return GivenToken(int(token[1]), digest(text))
    return None


def is_same(given: bytes, kept: bytes) -> bool:
    """Whether two hashes are equal, in a time that does not depend on where they differ."""
    return hmac.compare_digest(given, kept)


def digest(text: str) -> bytes:
    """What is kept of a key or a token."""
    return hashlib.sha256(text.encode()).digest()


def _token(device_id: int, secret: bytes) -> str:
    return f"dst_{device_id}_{_encoded(secret)}"


def _encoded(secret: bytes) -> str:
    return base64.urlsafe_b64encode(secret).rstrip(b"=").decode()
