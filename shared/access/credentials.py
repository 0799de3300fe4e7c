"""The format of access keys, device tokens and sessions (ADR 22, 45).

    dsk_k3v9q2xm_4fXz…   an access key: eight characters that identify it, and 256 random bits
    dst_7_9sLw…          the token of device 7: 256 bits
    dss_sQe81…           a session in the cookie of a browser: 256 random bits; s: made over https, p: over http

The database has the SHA-256 of each. A slow hash is not needed for 256 random bits, unlike for passwords.
"""

import base64
import hashlib
import hmac
import re
import secrets
from enum import StrEnum

import msgspec

BYTES = 32
"""Size of the secret part: 256 bits."""
NONCE_BYTES = 16
_ALPHABET = "abcdefghjkmnpqrstuvwxyz23456789"
"""Characters of a prefix, without those that are easily confused."""
_KEY = re.compile(r"(dsk_[a-z0-9]{8})_[A-Za-z0-9_-]{43}", re.ASCII)
_TOKEN = re.compile(r"dst_([1-9][0-9]{0,18})_[A-Za-z0-9_-]{43}", re.ASCII)
_SESSION = re.compile(r"dss_[sp][A-Za-z0-9_-]{43}", re.ASCII)
_SECURE, _PLAIN = "dss_s", "dss_p"
_MAX_ID = 2**63 - 1


class Role(StrEnum):
    """The role of an access key."""

    ADMIN = "admin"
    """Everything."""
    ANALYST = "analyst"
    """Read, and queue analyses."""
    WRITER = "writer"
    """Store readings."""


class NewKey(msgspec.Struct, frozen=True):
    """A new access key. `text` is displayed once and not stored."""

    text: str
    prefix: str
    hash: bytes

    def __repr__(self) -> str:
        return f"NewKey({self.prefix})"


class NewToken(msgspec.Struct, frozen=True):
    """A new device token. `text` is displayed once and not stored."""

    text: str
    hash: bytes
    nonce: bytes | None

    def __repr__(self) -> str:
        return "NewToken(…)"


class NewSession(msgspec.Struct, frozen=True):
    """A new session. `text` is sent to the browser once and not stored."""

    text: str
    hash: bytes

    def __repr__(self) -> str:
        return "NewSession(…)"


class GivenKey(msgspec.Struct, frozen=True):
    """An access key in a request."""

    prefix: str
    hash: bytes


class GivenToken(msgspec.Struct, frozen=True):
    """A device token in a request."""

    device_id: int
    hash: bytes


class GivenSession(msgspec.Struct, frozen=True):
    """A session in a request."""

    hash: bytes


Given = GivenKey | GivenToken | GivenSession


def new_key() -> NewKey:
    """Return a random access key."""
    prefix = "dsk_" + "".join(secrets.choice(_ALPHABET) for _ in range(8))
    text = f"{prefix}_{_encoded(secrets.token_bytes(BYTES))}"
    return NewKey(text, prefix, digest(text))


def new_token(device_id: int, secret: str | None) -> NewToken:
    """Return a token for the device, derived from the secret and a random nonce; without a secret a random token."""
    if secret is None:
        text = _token(device_id, secrets.token_bytes(BYTES))
        return NewToken(text, digest(text), None)
    nonce = secrets.token_bytes(NONCE_BYTES)
    text = derived_token(device_id, nonce, secret)
    return NewToken(text, digest(text), nonce)


def new_session(*, secure: bool) -> NewSession:
    """Return a random session. `secure`: it is made over https."""
    text = f"{_SECURE if secure else _PLAIN}{_encoded(secrets.token_bytes(BYTES))}"
    return NewSession(text, digest(text))


def derived_token(device_id: int, nonce: bytes, secret: str) -> str:
    """Return the device's token for a nonce: HMAC-SHA256 (RFC 2104) of device id and nonce under the secret."""
    message = b"devicestat device token\0" + device_id.to_bytes(8) + nonce
    return _token(device_id, hmac.digest(secret.encode(), message, "sha256"))


def read(text: str) -> Given | None:
    """Parse an access key, a device token or a session; return None if the text is none of them."""
    if key := _KEY.fullmatch(text):
        return GivenKey(key[1], digest(text))
    if (token := _TOKEN.fullmatch(text)) and int(token[1]) <= _MAX_ID:
        return GivenToken(int(token[1]), digest(text))
    return GivenSession(digest(text)) if _SESSION.fullmatch(text) else None


def is_secure(session: str) -> bool:
    """Return whether the session was made over https. Its text cannot be changed, since all of it is hashed."""
    return session.startswith(_SECURE)


def is_same(given: bytes, kept: bytes) -> bool:
    """Return whether two hashes are equal, in constant time."""
    return hmac.compare_digest(given, kept)


def digest(text: str) -> bytes:
    """Return the hash of a key or a token that is stored."""
    return hashlib.sha256(text.encode()).digest()


def _token(device_id: int, secret: bytes) -> str:
    return f"dst_{device_id}_{_encoded(secret)}"


def _encoded(secret: bytes) -> str:
    return base64.urlsafe_b64encode(secret).rstrip(b"=").decode()
