"""Passwords, a certificate authority, and its certificates. Existing passwords and authorities are kept.

A certificate is renewed when its names change, and a month before it expires. Keys are passed to openssl in files, so
no argument contains a secret.
"""

import os
import secrets
import subprocess  # openssl
from pathlib import Path

from shared.errors import LocalError

PASSWORDS = (
    "owner", "ingestor", "api", "worker", "broker", "admin", "device_secret", "metrics_token", "webhook_secret",
)  # fmt: skip
_CA_DAYS, _DAYS, _RENEWED_S = 3650, 397, 30 * 24 * 3600


def keep_passwords(directory: Path) -> dict[str, str]:
    """Return each of PASSWORDS. A missing one is created as a file: 64 hexadecimal digits, 256 bits."""
    return {name: _kept(directory / name) for name in PASSWORDS}


def keep_authority(directory: Path) -> str:
    """Return the authority's certificate as PEM: `ca.pem` of the directory. If missing, it is created with `ca.key`.

    Raises LocalError if openssl is missing or fails.
    """
    if not (directory / "ca.pem").exists():
        key = _new_key(directory / "ca.key")
        _openssl(
            "req", "-x509", "-new", "-key", str(key), "-days", str(_CA_DAYS), "-subj", "/CN=Devicestat",
            "-addext", "keyUsage=critical,keyCertSign,cRLSign", "-out", str(directory / "ca.new"),
        )  # fmt: skip
        (directory / "ca.new").rename(directory / "ca.pem")
    return (directory / "ca.pem").read_text()


def keep_certificate(directory: Path, name: str, alternatives: str) -> tuple[str, str]:
    """Return a certificate of the directory's authority, and its key, as PEM.

    `alternatives`: its names, in openssl's form of subjectAltName. Raises LocalError.
    """
    key, certificate, extensions = (directory / f"{name}.{kind}" for kind in ("key", "pem", "extensions"))
    wanted = f"subjectAltName={alternatives}\nextendedKeyUsage=serverAuth\n"
    fits = certificate.exists() and extensions.exists() and extensions.read_text() == wanted
    if not (fits and _lasts(certificate)):
        certificate.unlink(missing_ok=True)  # it would not match the new key
        _new_key(key)
        write(extensions, wanted, 0o400)
        request = directory / f"{name}.request"
        _openssl("req", "-new", "-key", str(key), "-subj", f"/CN={name}", "-out", str(request))
        _openssl(
            "x509", "-req", "-in", str(request), "-CA", str(directory / "ca.pem"), "-CAkey", str(directory / "ca.key"),
            "-days", str(_DAYS), "-set_serial", f"0x{secrets.token_hex(16)}", "-extfile", str(extensions),
            "-out", str(certificate),
        )  # fmt: skip
        request.unlink()
    return certificate.read_text(), key.read_text()


def write(file: Path, content: str, mode: int, group: int = -1) -> None:
    """Write a file in one step: a reader finds all of the old content or all of the new.

    `group`: id of the file's group; -1: unchanged.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    new = file.with_name(f".{file.name}")
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o400), "w") as stream:
        stream.write(content)
    os.chown(new, -1, group)
    new.chmod(mode)
    new.rename(file)


def _kept(file: Path) -> str:
    if not file.exists():
        write(file, secrets.token_hex(32), 0o400)  # needs no escaping in a URL
    return file.read_text()


def _lasts(certificate: Path) -> bool:
    return not _run("x509", "-checkend", str(_RENEWED_S), "-noout", "-in", str(certificate)).returncode


def _new_key(file: Path) -> Path:
    file.unlink(missing_ok=True)
    _openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", str(file))
    file.chmod(0o400)
    return file


def _openssl(*arguments: str) -> None:
    done = _run(*arguments)
    if done.returncode:
        raise LocalError(f"openssl {arguments[0]} failed: {done.stderr.strip()}")


def _run(*arguments: str) -> "subprocess.CompletedProcess[str]":
    try:
        return subprocess.run(("openssl", *arguments), capture_output=True, text=True, check=False)  # noqa: S607  # in PATH
    except FileNotFoundError:
        raise LocalError("openssl, which creates the certificates, is not installed: apt-get install openssl") from None
