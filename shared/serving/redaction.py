"""Removal of secrets from output, as a last defense: no code should print one.

It removes the secrets in the settings, also in their escaped forms, and text in the form of a key, a device token or a
session.
"""

import json
import re
import sys
import traceback
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Any
from urllib.parse import quote, unquote

from shared.settings import SECRETS, MqttAddress, Settings, WebhookSecret

MASK = "***"
SHORTEST = 4
"""Shorter secrets would match too many words."""
_CREDENTIAL = re.compile(r"(dsk_[a-z0-9]{8}_|dst_[0-9]{1,19}_|dss_)[A-Za-z0-9_-]{8,}", re.ASCII)
"""A key, a token or a session, or a long part of it. The prefix, which identifies it, is not removed."""
_PASSWORDS = (re.compile(r"^[^:]+://[^:@/]*:([^/]+)@"), re.compile(r"[?&][a-z_]*(?:password|secret)=([^&]+)"))
"""Passwords in a URL: after the user, and in libpq's parameters."""


def without_credentials(text: str) -> str:
    """Return the text with MASK in place of the secret part of keys, tokens and sessions."""
    return _CREDENTIAL.sub(rf"\1{MASK}", text) if any(prefix in text for prefix in ("dsk_", "dst_", "dss_")) else text


class Redactor:
    """Replacement of secrets in a text by MASK."""

    def __init__(self, secrets: Iterable[str]) -> None:
        forms = {form for secret in secrets if len(secret) >= SHORTEST for form in written(secret)}
        self._secrets = sorted(forms, key=len, reverse=True)  # longest first: one may contain another

    def __call__(self, text: str) -> str:
        """Return the text without the secrets."""
        text = without_credentials(text)
        for secret in self._secrets:
            text = text.replace(secret, MASK)
        return text

    def process(self, logger: object, method: str, event: Any) -> str:
        """Redact a line, as the last processor of structlog."""
        return self(event if isinstance(event, str) else event.decode())


def redactor(settings: Settings) -> Redactor:
    """Return a redactor for the secrets of the settings."""
    return Redactor(secrets_in(settings))


def secrets_in(settings: Settings) -> Iterator[str]:
    """Yield the secrets of the settings; of a URL, its password."""
    for name in SECRETS:
        match getattr(settings, name):
            case MqttAddress(url=text) | WebhookSecret(text=text) | str(text):
                yield from secrets_of(name, text)


def secrets_of(name: str, text: str) -> Iterator[str]:
    """Yield the secrets in the text of a setting."""
    yield from _passwords(text) if name.endswith("_url") else [text]


def _passwords(url: str) -> Iterator[str]:
    """Yield passwords as written in the URL and decoded, unless equal to the user or the database name."""
    besides = url
    found = [password for place in _PASSWORDS for password in place.findall(url)]
    for password in found:
        besides = besides.replace(f":{password}@", "").replace(f"={password}", "")
    for password in found:
        if password not in besides:
            yield password
            yield unquote(password)


def written(secret: str) -> Iterator[str]:
    """Yield the secret as written in text, in JSON, in a repr and in a URL."""
    yield secret
    yield json.dumps(secret)[1:-1]
    yield json.dumps(secret, ensure_ascii=False)[1:-1]
    yield repr(secret)[1:-1]
    yield quote(secret, safe="")


def redact_tracebacks(settings: Settings) -> None:
    """Print the exception that ends the process without the secrets of the settings."""
    redact = redactor(settings)

    def show(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        sys.stderr.write(redact("".join(traceback.format_exception(kind, error, trace))))

    sys.excepthook = show
