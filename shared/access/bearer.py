"""`Authorization: Bearer` (RFC 6750): strict parsing, and comparison in constant time."""

import base64
import binascii
import hmac
import re

CHALLENGE = 'Bearer realm="devicestat"'
"""The WWW-Authenticate of a refusal; `, error="…"` follows if the request has credentials."""
_BASIC = re.compile(r"basic +([A-Za-z0-9+/]+=*)", re.ASCII | re.IGNORECASE)
_CREDENTIALS = re.compile(r"bearer +([A-Za-z0-9._~+/-]+=*)", re.ASCII | re.IGNORECASE)


def bearer_of(header: str | None) -> str | None:
    """Return the token in the header; None if there is no header, or it has another scheme or form (section 2.1)."""
    found = _CREDENTIALS.fullmatch(header.strip(" \t")) if header is not None else None
    return found[1] if found else None


def is_bearer(header: str | None, token: str) -> bool:
    """Return whether the header has this token."""
    shown = bearer_of(header)
    return shown is not None and hmac.compare_digest(shown.encode(), token.encode())


def shows(header: str | None, secret: str) -> bool:
    """Return whether the header has the secret, as a token or as the password of any user (RFC 7617).

    Basic is for clients that accept only a user and a password in the URL.
    """
    return is_bearer(header, secret) or hmac.compare_digest(_basic_password(header), secret.encode())


def _basic_password(header: str | None) -> bytes:
    found = _BASIC.fullmatch(header.strip(" \t")) if header is not None else None
    try:
        return base64.b64decode(found[1], validate=True).partition(b":")[2] if found else b""
    except binascii.Error:
        return b""


def showing(token: str | None) -> dict[str, str]:
    """Return the headers that send the token, if there is one."""
    return {} if token is None else {"Authorization": f"Bearer {token}"}
