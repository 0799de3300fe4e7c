"""Properties of the deployment's files that need no container engine."""

import re
import shutil
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.containers import first_start, healthcheck
from deploy.local.postgres import SETTINGS
from shared.settings import Settings
from shared.status.database import months_and_locks

DEPLOY = Path(first_start.__file__).parents[1]
COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
UNITS = sorted((DEPLOY / "systemd").glob("*.service"))
LOCKS = "max_locks_per_transaction"
ONCE = {"setup", "migrate", "broker-file", "broker-data", "devicestat"}


@pytest.mark.parametrize("service", SERVICES)
def test_every_container_is_closed(service: str) -> None:
    container = SERVICES[service]
    assert container["read_only"] is True
    assert container["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in container["security_opt"]
    assert container["mem_limit"]
    assert container.get("cap_add", []) == (["NET_BIND_SERVICE"] if service == "caddy" else [])


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_is_started_again_and_looked_after(service: str) -> None:
    container = SERVICES[service]
    if service in ONCE:
        assert container["restart"] == "no"
        assert container["healthcheck"] == {"disable": True}
    else:
        assert container["restart"] == "unless-stopped"
        assert container.get("healthcheck", {}).get("test") or container["image"] == "devicestat", "the image has one"


def test_only_the_proxy_and_the_broker_are_published() -> None:
    assert {name for name, container in SERVICES.items() if "ports" in container} == {"caddy", "mosquitto"}
    assert all(COMPOSE["networks"][name]["internal"] for name in ("database", "broker", "proxy"))


def test_no_service_sees_the_secrets_of_another() -> None:
    for name, container in SERVICES.items():
        secret = {volume.split(":")[0] for volume in container.get("volumes", ()) if "-secrets:" in volume}
        if name in ("setup", "mosquitto", "caddy"):
            continue
        assert secret <= {f"{name}-secrets"} or name in ("broker-file", "devicestat", "migrate"), name
    assert [
        name for name, container in SERVICES.items() if "authority:/secrets/authority" in container.get("volumes", ())
    ] == ["setup"]


def _named() -> Iterator[tuple[str, str]]:
    for file in (DEPLOY / "compose.yaml", DEPLOY / "Dockerfile", *UNITS):
        for variable in re.findall(r"DEVICESTAT_([A-Z_]+)", file.read_text(encoding="utf-8")):
            yield file.name, variable


def test_every_setting_that_is_named_exists() -> None:
    known = {*Settings.__struct_fields__, "config"}
    named = list(_named())
    assert len(named) > 30
    assert [one for one in named if one[1].removesuffix("_FILE").lower() not in known] == []


def test_no_secret_stands_in_a_file() -> None:
    for file in (DEPLOY / "compose.yaml", *UNITS):
        for name, value in re.findall(
            r"(DEVICESTAT_\w*(?:URL|SECRET|TOKEN|KEY)\w*|\w*PASSWORD\w*)[:=] ?(\S+)", file.read_text(encoding="utf-8")
        ):
            assert name.endswith("_FILE"), f"{name} in {file.name}"
            assert value.startswith(("/run/secrets/", "%d/")), f"{name} in {file.name}"


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_every_unit_is_hardened(unit: Path) -> None:
    lines = unit.read_text(encoding="utf-8").splitlines()
    for line in ("User=devicestat", "NoNewPrivileges=yes", "CapabilityBoundingSet=", "ProtectSystem=strict"):
        assert line in lines


def documented_units() -> dict[str, str]:
    """Return the units in docs/many-devices.md that reload Mosquitto's password file, by name."""
    text = (DEPLOY.parent / "docs" / "many-devices.md").read_text(encoding="utf-8")
    found = re.findall(r"`/etc/systemd/system/(mosquitto-devices\.\w+)`:\n\n```\n(.*?)```", text, re.DOTALL)
    return dict(found)


def test_the_units_of_the_password_file_reload_mosquitto_and_send_no_signal_to_one_that_starts() -> None:
    """Mosquitto ends at a SIGHUP during its start, and systemd treats that as a clean exit."""
    units = documented_units()
    assert units.keys() == {"mosquitto-devices.path", "mosquitto-devices.service"}
    assert "ExecStart=systemctl reload mosquitto\n" in units["mosquitto-devices.service"]


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
def test_systemd_takes_the_units_of_the_password_file(tmp_path: Path) -> None:
    for name, text in documented_units().items():
        (tmp_path / name).write_text(text)
    files = sorted(map(str, tmp_path.iterdir()))
    result = subprocess.run(["systemd-analyze", "verify", "--man=no", *files], capture_output=True, text=True)
    assert (result.returncode, result.stderr) == (0, "")


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl")
class TestFirstStart:
    def test_what_is_made_once_stays(self, tmp_path: Path) -> None:
        first_start.main(tmp_path, "localhost,127.0.0.1")
        before = self.contents(tmp_path)
        (tmp_path / "api" / "database_url").unlink()
        first_start.main(tmp_path, "localhost,127.0.0.1")
        assert self.contents(tmp_path) == before

    def test_another_name_makes_another_certificate_of_the_same_authority(self, tmp_path: Path) -> None:
        first_start.main(tmp_path, "localhost")
        before = self.contents(tmp_path)
        first_start.main(tmp_path, "telemetry.example.com,192.0.2.7,2001:db8::7")
        after = self.contents(tmp_path)
        changed = {name for name in after if after[name] != before[name]}
        public = {f"authority/public.{kind}" for kind in ("key", "pem", "extensions")}
        assert changed == public | {"public/certificate.pem", "public/key.pem"}
        ca, leaf = tmp_path / "public" / "ca.pem", tmp_path / "public" / "certificate.pem"
        for name in ("-verify_hostname telemetry.example.com", "-verify_ip 192.0.2.7", "-verify_ip 2001:db8::7"):
            verify = ("openssl", "verify", "-x509_strict", *name.split(), "-CAfile", str(ca), str(leaf))
            assert subprocess.run(verify, capture_output=True, check=False).returncode == 0, name
        ssl.create_default_context().load_cert_chain(leaf, tmp_path / "public" / "key.pem")

    def test_each_service_gets_exactly_its_files(self, tmp_path: Path) -> None:
        first_start.main(tmp_path, "localhost")
        contents = self.contents(tmp_path)
        for password, where in {
            "owner": {"postgres/password", "migrate/database_url"},
            "worker": {"worker/database_url", "migrate/passwords/worker"},
            "broker": {"ingestor/mqtt_url", "migrate/mqtt_url"},
            "device_secret": {f"{service}/device_secret" for service in ("migrate", "api", "worker")},
        }.items():
            secret = contents[f"authority/{password}"]
            assert {name for name, text in contents.items() if secret in text} == where | {f"authority/{password}"}
        modes = {file.stat().st_mode & 0o777 for file in (tmp_path / "authority").glob("*.key")}
        assert modes == {0o400}

    @staticmethod
    def contents(directory: Path) -> dict[str, str]:
        files = (file for file in directory.rglob("*") if file.is_file())
        return {str(file.relative_to(directory)): file.read_text(encoding="utf-8") for file in files}


def test_a_container_in_which_nobody_listens_is_not_well() -> None:
    nobody = {f"DEVICESTAT_{name}": "1" for name in ("HTTP_PORT", "INGESTOR_METRICS_PORT", "WORKER_METRICS_PORT")}
    assert not healthcheck.is_well(nobody)


def test_postgresql_has_room_for_the_locks_of_ten_years() -> None:
    """In `up` and in the containers, with the default of 100 connections."""
    (given,) = (option for option in SERVICES["postgres"]["command"] if option.startswith(LOCKS))
    assert given == f"{LOCKS}={SETTINGS[LOCKS]}"
    assert months_and_locks(months=125, locks=int(SETTINGS[LOCKS]), transactions=100) == []
