"""`python -m deploy.first_start DIR`: the secrets and certificates of the containers, made at the first start.

DIR/authority has what all else is made from: the passwords and the certificate authority. Beside it each service has a
directory, which compose.yaml mounts into this service alone, with what it needs in the form that it takes. These are
written anew each time, so that what was lost comes back; what is in `authority` is made where it is missing, and never
changed. Certificates are made anew when their names change, or a month before their end.

Nothing secret is in an argument of openssl: keys go through files.
"""

import os
import secrets
import subprocess  # openssl
import sys
from collections.abc import Mapping
from pathlib import Path

from deploy.certificate_names import alternatives
from shared.errors import SettingsError

PASSWORDS = (
    "owner", "ingestor", "api", "worker", "broker", "admin", "device_secret", "metrics_token", "webhook_secret",
)  # fmt: skip
_CA_DAYS, _DAYS, _RENEWED_S = 3650, 397, 30 * 24 * 3600
_DATABASE = "postgresql://devicestat{role}:{password}@postgres:5432/devicestat"
_BROKER = "mqtts://{user}:{password}@mosquitto:8884"


def main(directory: Path, names: str) -> None:
    """Makes what is missing; `names`, with commas, are those under which the broker and the API are reached.

    Raises SettingsError where a name can stand in no certificate, before anything is made.
    """
    public = ",".join(alternatives(names))
    authority = directory / "authority"
    passwords = {name: _kept(authority / name) for name in PASSWORDS}
    _make_authority(authority)
    certificates = {
        "broker": _certificate(authority, "mosquitto", "DNS:mosquitto"),
        "public": _certificate(authority, "public", public),
    }
    for path, content in files(passwords, certificates, (authority / "ca.pem").read_text()).items():
        _write(directory / path, content, 0o444)


def files(passwords: Mapping[str, str], certificates: Mapping[str, tuple[str, str]], ca: str) -> dict[str, str]:
    """Each file by its path. Whoever may mount the directory may read it: postgres and mosquitto have users of their
    own."""
    admin = {
        "mqtt_admin_url": _BROKER.format(user="devicestat-admin", password=passwords["admin"]),
        "device_secret": passwords["device_secret"],
    }
    webhook = {"webhook_secret": passwords["webhook_secret"]}
    ingestor = {"mqtt_url": _BROKER.format(user="devicestat-ingestor", password=passwords["broker"])}
    contents = {
        "postgres": {"password": passwords["owner"]},
        "migrate": {
            "database_url": _DATABASE.format(role="", password=passwords["owner"]),
            **{f"passwords/{service}": passwords[service] for service in ("ingestor", "api", "worker")},
            **ingestor, **admin, "metrics_token": passwords["metrics_token"], "ca.pem": ca,
        },
        "mosquitto": {
            "ca.pem": ca, "certificate.pem": certificates["broker"][0], "key.pem": certificates["broker"][1],
        },
        "public": {
            "ca.pem": ca, "certificate.pem": certificates["public"][0], "key.pem": certificates["public"][1],
        },
        "ingestor": {**_service("ingestor", passwords), **ingestor, "ca.pem": ca},
        "api": {**_service("api", passwords), **admin, **webhook, "ca.pem": ca},
        "worker": {**_service("worker", passwords), **admin, **webhook, "ca.pem": ca},
    }  # fmt: skip
    return {f"{service}/{name}": content for service, held in contents.items() for name, content in held.items()}


def _service(name: str, passwords: Mapping[str, str]) -> dict[str, str]:
    url = _DATABASE.format(role=f"_{name}", password=passwords[name])
    return {"database_url": url, "metrics_token": passwords["metrics_token"]}


def _kept(file: Path) -> str:
    """A password of 256 bits, made where there is none; letters and digits alone, so that it may stand in a URL."""
    if not file.exists():
        _write(file, secrets.token_hex(32), 0o400)
    return file.read_text()


def _make_authority(directory: Path) -> None:
    if (directory / "ca.pem").exists():
        return
    key = _new_key(directory / "ca.key")
    _openssl(
        "req", "-x509", "-new", "-key", str(key), "-days", str(_CA_DAYS), "-subj", "/CN=Devicestat",
        "-addext", "keyUsage=critical,keyCertSign,cRLSign", "-out", str(directory / "ca.new"),
    )  # fmt: skip
    (directory / "ca.new").rename(directory / "ca.pem")


def _certificate(directory: Path, name: str, alternatives: str) -> tuple[str, str]:
    """The certificate and its key, as PEM."""
    key, certificate, extensions = (directory / f"{name}.{kind}" for kind in ("key", "pem", "extensions"))
    wanted = f"subjectAltName={alternatives}\nextendedKeyUsage=serverAuth\n"
    fits = certificate.exists() and extensions.exists() and extensions.read_text() == wanted
    if not (fits and _lasts(certificate)):
        certificate.unlink(missing_ok=True)  # it is not to be taken for that of the new key
        _new_key(key)
        _write(extensions, wanted, 0o400)
        request = directory / f"{name}.request"
        _openssl("req", "-new", "-key", str(key), "-subj", f"/CN={name}", "-out", str(request))
        _openssl(
            "x509", "-req", "-in", str(request), "-CA", str(directory / "ca.pem"), "-CAkey", str(directory / "ca.key"),
            "-days", str(_DAYS), "-set_serial", f"0x{secrets.token_hex(16)}", "-extfile", str(extensions),
            "-out", str(certificate),
        )  # fmt: skip
        request.unlink()
    return certificate.read_text(), key.read_text()


def _lasts(certificate: Path) -> bool:
    return not _run("x509", "-checkend", str(_RENEWED_S), "-noout", "-in", str(certificate)).returncode


def _new_key(file: Path) -> Path:
    file.unlink(missing_ok=True)
    _openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", str(file))
    file.chmod(0o400)
    return file


def _write(file: Path, content: str, mode: int) -> None:
    """In one step: who reads it meanwhile finds all of the old or all of the new."""
    file.parent.mkdir(parents=True, exist_ok=True)
    new = file.with_name(f".{file.name}")
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o400), "w") as stream:
        stream.write(content)
    new.chmod(mode)
    new.rename(file)


def _openssl(*arguments: str) -> None:
    done = _run(*arguments)
    if done.returncode:
        sys.exit(f"openssl {arguments[0]} failed: {done.stderr.strip()}")


def _run(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(("openssl", *arguments), capture_output=True, text=True, check=False)  # noqa: S607  # the image's


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]), os.environ.get("NAMES") or "localhost,127.0.0.1")
    except SettingsError as error:
        sys.exit(str(error))
