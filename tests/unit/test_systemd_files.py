"""Files of `devicestat systemd install`, compared with docs/systemd.md."""

import os
import re
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from deploy.cli.main import main
from deploy.systemd.files import Host, install, look
from shared.errors import LocalError, SettingsError
from shared.postgres.roles import SERVICES
from shared.settings import Settings, load

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "systemd.md").read_text(encoding="utf-8")
UNITS = sorted((ROOT / "deploy" / "systemd").glob("*.service"))
PLUGIN = Path("/usr/lib/x86_64-linux-gnu/mosquitto_dynamic_security.so")
NAMES = "telemetry.example.com,localhost"
ELSEWHERE = {"/etc/mosquitto/mosquitto.conf", "/etc/caddy/Caddyfile"}
"""Files on the page that belong to other packages."""

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl")


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(root=tmp_path, plugin=PLUGIN, groups={"mosquitto": os.getgid(), "caddy": os.getgid()})


def read(host: Host, path: str) -> str:
    return (host.root / path.removeprefix("/")).read_text(encoding="utf-8")


def test_every_credential_of_a_unit_is_made(host: Host) -> None:
    install(host, NAMES)
    loaded = {path for unit in UNITS for path in re.findall(r"LoadCredential=\w+:(\S+)", unit.read_text("utf-8"))}
    assert len(loaded) > 10
    assert [path for path in loaded if not read(host, path)] == []


def test_the_settings_of_services_and_operators_are_valid(host: Host) -> None:
    install(host, NAMES)
    for service, role in [*SERVICES.items(), ("owner", "devicestat_owner")]:
        urls = {
            f"DEVICESTAT_{name.upper()}": read(host, f"etc/devicestat/secrets/{name}")
            for name in ("mqtt_url", "mqtt_admin_url", "device_secret", "metrics_token", "webhook_secret")
        }
        urls["DEVICESTAT_DATABASE_URL"] = read(host, f"etc/devicestat/secrets/{service}/database_url")
        settings = load(urls, host.root / "etc/devicestat/devicestat.toml")
        assert settings.database.startswith(f"postgresql://{role}:")
        assert settings.broker.port == settings.broker_admin.port == 8884
    named = re.findall(r"export DEVICESTAT_([A-Z_]+)=(\S+)", read(host, "etc/devicestat/operator.env"))
    assert {name.removesuffix("_FILE").lower() for name, _ in named} - {"config"} <= set(Settings.__struct_fields__)
    assert [path for _, path in named if path.startswith("/") and not read(host, path)] == []


def test_secrets_are_roots_and_keys_their_servers(host: Host) -> None:
    install(host, NAMES)
    home = host.root / "etc/devicestat"
    modes = {name: (home / name).stat().st_mode & 0o777 for name in ("authority", "secrets", "mosquitto", "caddy")}
    assert modes == {"authority": 0o700, "secrets": 0o700, "mosquitto": 0o750, "caddy": 0o750}
    assert {file.stat().st_mode & 0o077 for file in (home / "secrets").rglob("*") if file.is_file()} == {0}
    assert {file.stat().st_mode & 0o777 for file in home.glob("*/**/key.pem")} == {0o640}


def test_the_brokers_configuration_is_closed_and_complete(host: Host) -> None:
    install(host, NAMES)
    lines = [line for line in read(host, "etc/devicestat/mosquitto/mosquitto.conf").splitlines() if line[:1] != "#"]
    assert [line for line in lines if line.startswith("listener")] == ["listener 8883", "listener 8884 127.0.0.1"]
    assert [line for line in lines if line.startswith("allow_anonymous")] == ["allow_anonymous false"]
    assert f"plugin {PLUGIN}" in lines
    assert "max_queued_messages 10000000" in lines
    files = [line.split()[1] for line in lines if line.startswith(("certfile", "keyfile"))]
    assert len(files) == 4
    assert [file for file in files if not read(host, file)] == []
    assert "reverse_proxy 127.0.0.1:8000" in read(host, "etc/devicestat/caddy/Caddyfile")
    assert "/run/" not in read(host, "etc/devicestat/caddy/Caddyfile") + "\n".join(lines)


def test_a_second_time_writes_what_is_missing_or_of_another_version_alone(host: Host) -> None:
    install(host, NAMES)
    assert install(host, NAMES) == []
    home = host.root / "etc/devicestat"
    (home / "secrets/mqtt_url").write_text("mqtts://me:secret@broker.example.com:8883", encoding="utf-8")
    (home / "devicestat.toml").write_text("[devicestat]\n", encoding="utf-8")
    (home / "secrets/api/database_url").unlink()
    unit = host.root / "etc/systemd/system/devicestat-api.service"
    unit.write_text("of an earlier version", encoding="utf-8")
    assert set(install(host, NAMES)) == {home / "secrets/api/database_url", unit}
    renewed = {file.relative_to(home).as_posix() for file in install(host, f"{NAMES},192.0.2.7")}
    assert renewed == {f"{of}/{kind}.pem" for of in ("caddy", "mosquitto/public") for kind in ("certificate", "key")}


def test_wrong_names_make_nothing(host: Host) -> None:
    with pytest.raises(SettingsError, match=r"10\.0\.0\.300"):
        install(host, "localhost,10.0.0.300")
    assert list(host.root.iterdir()) == []


def test_what_the_host_lacks_is_named() -> None:
    with pytest.raises(LocalError, match=r"there is no group not-installed: apt-get install not-installed"):
        look(["not-installed"])


class TestThePage:
    def test_every_path_exists(self, host: Host) -> None:
        install(host, NAMES)
        paths = {path.rstrip("/.") for path in re.findall(r"/etc/(?:devicestat|mosquitto|caddy)[\w./-]*", PAGE)}
        assert len(paths) > 8
        made = {path for path in paths if (host.root / path.removeprefix("/")).exists()}
        assert paths - made == ELSEWHERE

    def test_every_file_of_the_tables_exists(self, host: Host) -> None:
        install(host, NAMES)
        rows = re.findall(r"^\| (`.*?) \| `(?:postgresql|mqtts)://", PAGE, re.MULTILINE)
        files = [file for row in rows for file in re.findall(r"`([\w/]+)`", row)]
        assert len(files) == 6
        assert [file for file in files if not read(host, f"etc/devicestat/secrets/{file}")] == []

    def test_every_unit_role_and_setting_exists(self, host: Host) -> None:
        install(host, NAMES)
        units = set(re.findall(r"devicestat-(?:migrate|ingestor|api|worker)\b", PAGE))
        assert units == {unit.stem for unit in UNITS}
        roles = set(re.findall(r"devicestat_[a-z]+", PAGE))
        assert roles == {*SERVICES.values(), "devicestat_owner"}
        settings = {name.lower() for name in re.findall(r"DEVICESTAT_([A-Z_]+)", PAGE)}
        assert settings <= set(Settings.__struct_fields__)
        assert "max_locks_per_transaction = 256" in read(host, "etc/devicestat/secrets/owner/database.sql")

    def test_every_command_exists(self) -> None:
        lines = re.findall(r"^(?:KEY=\$\()?devicestat ([a-z -]+?)(?= /| --|\)|$)", PAGE, re.MULTILINE)
        assert {"systemd install", "broker init", "broker sync", "keys create", "doctor"} == set(lines)
        for line in lines:
            assert CliRunner().invoke(main, [*line.split(), "--help"]).exit_code == 0, line

    def test_the_lines_that_install_are_the_same_in_an_upgrade(self) -> None:
        for command in re.findall(r"^/opt/devicestat/bin/pip .*$", PAGE, re.MULTILINE):
            assert PAGE.count(command) == 2, command
