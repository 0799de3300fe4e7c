"""`python -m deploy.containers.first_start DIR`: creates the secrets and certificates of the containers.

DIR/authority has the passwords and the certificate authority, from which the other files are derived. Each service has
a directory DIR/SERVICE with its files, which compose.yaml mounts into that service only. These files are written at
each start, so lost ones are restored.
"""

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from deploy.containers.authority import keep_authority, keep_certificate, keep_passwords, write
from deploy.containers.certificate_names import alternatives
from shared.errors import DevicestatError

_DATABASE = "postgresql://devicestat{role}:{password}@postgres:5432/devicestat"
_BROKER = "mqtts://{user}:{password}@mosquitto:8884"


def main(directory: Path, names: str) -> None:
    """Create what is missing. `names`: names of the broker and the API, separated by commas.

    Raises SettingsError if a name is invalid, before anything is created, and LocalError.
    """
    public = ",".join(alternatives(names))
    authority = directory / "authority"
    passwords = keep_passwords(authority)
    ca = keep_authority(authority)
    certificates = {
        "broker": keep_certificate(authority, "mosquitto", "DNS:mosquitto"),
        "public": keep_certificate(authority, "public", public),
    }
    for path, content in files(passwords, certificates, ca).items():
        write(directory / path, content, 0o444)


def files(passwords: Mapping[str, str], certificates: Mapping[str, tuple[str, str]], ca: str) -> dict[str, str]:
    """Return the content of each file by its path.

    Every user may read the files, because postgres and mosquitto have users of their own.
    """
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


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]), os.environ.get("NAMES") or "localhost,127.0.0.1")
    except DevicestatError as error:
        sys.exit(str(error))
