"""TLS connections to the broker, and explanations of their failures."""

import ssl
from pathlib import Path
from typing import NoReturn

from shared.errors import SettingsError
from shared.settings import PREFIX, TlsFiles

OLDEST = ssl.TLSVersion.TLSv1_2
_CA, _CERT, _KEY = (f"{PREFIX}MQTT_TLS_{part}" for part in ("CA", "CERT", "KEY"))
_OUR_CERTIFICATE = f"set {_CERT} and {_KEY} to one that the broker trusts"
_ALERTS = {
    "CERTIFICATE_REQUIRED": f"it requires a client certificate: {_OUR_CERTIFICATE}",
    "UNKNOWN_CA": f"it does not trust the issuer of the client certificate: {_OUR_CERTIFICATE}",
    "ALERT_CERTIFICATE_UNKNOWN": f"it does not accept the client certificate: {_OUR_CERTIFICATE}",
    "BAD_CERTIFICATE": f"it does not accept the client certificate: {_OUR_CERTIFICATE}",
    "CERTIFICATE_EXPIRED": f"the client certificate has expired: {_OUR_CERTIFICATE}",
    "HANDSHAKE_FAILURE": f"it refuses the handshake: if it requires a client certificate, {_OUR_CERTIFICATE}",
    "WRONG_VERSION_NUMBER": "it speaks no TLS on this port: mqtt:// instead of mqtts://, or another port",
    "PROTOCOL_VERSION": "it does not support TLS 1.2 or later",
}
"""Explanations, by a part of OpenSSL's reason."""


def client_context(files: TlsFiles) -> ssl.SSLContext:
    """Return the TLS context for connections to a broker. It trusts `files.ca`, by default the system's authorities.

    Raises SettingsError with the setting and its file.
    """
    if files.ca is not None:
        _check_certificates(_CA, files.ca)
    context = ssl.create_default_context(cafile=files.ca)
    context.minimum_version = OLDEST
    if files.cert is not None:
        _present(context, files.cert, files.key)
    elif files.key is not None:
        raise SettingsError([f"{_KEY} is set and {_CERT} is not: set both, or neither"])
    return context


def why(error: OSError) -> str:
    """Return the reason why a TLS connection failed or ended."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted ({error.verify_message.rstrip('.')})"
    if isinstance(error, ssl.SSLError):
        reason = error.reason or ""
        return next((text for part, text in _ALERTS.items() if part in reason), f"TLS failed ({reason or error})")
    return error.strerror or str(error) or "it took too long"


def _check_readable(setting: str, path: str) -> None:
    try:
        Path(path).read_bytes()
    except OSError as error:
        raise SettingsError([f"{setting} is {path}, which cannot be read: {error.strerror}"]) from error


def _check_certificates(setting: str, path: str) -> None:
    _check_readable(setting, path)
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(path)
    except (ssl.SSLError, ValueError) as error:
        raise SettingsError([f"{setting} is {path}, in which there is no certificate in PEM"]) from error


def _present(context: ssl.SSLContext, cert: str, key: str | None) -> None:
    """Load the client certificate into the context."""
    _check_certificates(_CERT, cert)
    if key is not None:
        _check_readable(_KEY, key)
    where = f"{_KEY} is {key}" if key is not None else f"{_KEY} is not set, and {_CERT} is {cert}"
    try:
        context.load_cert_chain(cert, key, password=_refuse_to_ask)
    except _Encrypted as error:
        raise SettingsError([f"{where}, whose key is encrypted: decrypt it, with `openssl pkey`"]) from error
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise SettingsError([f"{where}, whose key is not that of the certificate in {_CERT}, {cert}"]) from error
        raise SettingsError([f"{where}, in which there is no private key in PEM"]) from error


class _Encrypted(Exception):
    """The key cannot be read without a password."""


def _refuse_to_ask() -> NoReturn:
    """Raise an error, instead of OpenSSL's prompt on the terminal."""
    raise _Encrypted
