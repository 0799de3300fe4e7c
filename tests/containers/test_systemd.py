"""docs/systemd.md, line by line, on a plain Debian with systemd: a part of `make containers`.

The engine must run privileged containers. DEVICESTAT_TEST_CONTAINER_OPTIONS replaces OPTIONS for other engines.
"""

import json
import os
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.containers
ROOT = Path(__file__).parents[2]
IMAGE = "devicestat-test-debian"
OPTIONS = "--privileged --cgroupns private"
FIRST = ("Packages", "The program")
INSTALL = (
    *FIRST, "Secrets, certificates, configurations and units",
    "PostgreSQL", "Mosquitto", "Devicestat", "Caddy", "Try it",
)  # fmt: skip
SERVICES = ("devicestat-migrate", "devicestat-ingestor", "devicestat-api", "devicestat-worker")
LATEST = 'curl --fail --silent --cacert /etc/devicestat/ca.pem -H "Authorization: Bearer {key}" https://localhost/stats/1/latest'
_BOOTED = "until systemctl is-system-running --wait 2>/dev/null | grep -qE 'running|degraded'; do sleep 0.2; done"
_LATE = """
systemctl stop devicestat-migrate postgresql mosquitto
systemctl start --no-block devicestat-migrate devicestat-ingestor devicestat-api devicestat-worker
timeout 120 sh -c "until journalctl -u devicestat-migrate | grep -q 'waiting for PostgreSQL'; do sleep 0.2; done"
systemctl start postgresql
systemctl start devicestat-migrate
timeout 120 sh -c "until journalctl -u devicestat-ingestor | grep -q 'waiting for the broker'; do sleep 0.2; done"
systemctl start mosquitto
READY='curl --fail --silent --header @/root/header 127.0.0.1:9101/health/ready'
echo "Authorization: Bearer $(cat /etc/devicestat/secrets/metrics_token)" > /root/header
timeout 120 sh -c "until $READY; do sleep 0.2; done"
"""
"""The servers start after the services."""
_SAY = """trap 'echo "failed: $BASH_COMMAND" >&2' ERR"""


def docker(*arguments: str, **options: object) -> "subprocess.CompletedProcess[bytes]":
    return subprocess.run(("docker", *arguments), capture_output=True, check=False, **options)  # type: ignore[call-overload]


class Debian:
    """A host, and its administrator's shell."""

    def __init__(self, name: str) -> None:
        self.name = name
        options = os.environ.get("DEVICESTAT_TEST_CONTAINER_OPTIONS", OPTIONS).split()
        started = docker("run", "--detach", "--name", name, *options, "--tmpfs", "/run", "--tmpfs", "/run/lock", IMAGE)
        assert started.returncode == 0, started.stderr.decode()
        booted = docker("exec", name, "timeout", "120", "sh", "-c", _BOOTED)  # it also empties /tmp
        assert booted.returncode == 0, booted.stderr.decode()
        self._bring_the_source()

    def _bring_the_source(self) -> None:
        self.shell("mkdir -p /usr/local/src/devicestat")
        listing = ("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
        files = subprocess.run(listing, cwd=ROOT, capture_output=True, check=True).stdout
        packing = ("tar", "--create", "--null", "--files-from", "-")
        packed = subprocess.run(packing, cwd=ROOT, input=files, capture_output=True, check=True).stdout
        assert docker("cp", "-", f"{self.name}:/usr/local/src/devicestat", input=packed).returncode == 0

    def shell(self, commands: str) -> str:
        """Run the commands in one shell of root; return their output."""
        done = docker(
            "exec", "--env", "DEBIAN_FRONTEND=noninteractive", "--workdir", "/root", self.name,
            "bash", "-Eeuc", f"{_SAY}\n{commands}",
        )  # fmt: skip
        assert done.returncode == 0, f"{done.stdout.decode()[-2000:]}\n{done.stderr.decode()[-4000:]}"
        return done.stdout.decode()

    def active(self) -> list[str]:
        """Return the state of each service."""
        return docker("exec", self.name, "systemctl", "is-active", *SERVICES).stdout.decode().split()


@pytest.fixture(scope="module")
def debian() -> Iterator[Callable[[str], Debian]]:
    built = docker("build", "--tag", IMAGE, str(Path(__file__).parent / "debian"))
    assert built.returncode == 0, built.stderr.decode()
    names: list[str] = []

    def start(name: str) -> Debian:
        names.append(f"devicestat-test-{os.getpid()}-{name}")
        return Debian(names[-1])

    yield start
    for name in names:
        docker("rm", "--force", "--volumes", name)


def block(heading: str) -> str:
    """Return the commands below the heading in docs/systemd.md."""
    page = (ROOT / "docs" / "systemd.md").read_text(encoding="utf-8")
    section = page.split(f"## {heading}\n")[1].split("\n## ")[0]
    return "".join(re.findall(r"```\n(.*?)```", section, re.DOTALL))


def is_well(shown: str) -> bool:
    """Return whether the lines of the doctor show no fault."""
    return "ok       broker saved" in shown and "wrong    " not in shown


def test_the_page_leads_to_a_service_and_back_from_a_backup(debian: Callable[[str], Debian]) -> None:
    host = debian("first")
    shown = host.shell("\n".join(block(heading) for heading in INSTALL) + "echo\necho $KEY")
    *_, reading, key = shown.splitlines()
    assert {"device_id": 1, "x": 1.0, "y": 2.0, "z": 3.0}.items() <= json.loads(reading).items()
    assert is_well(shown), shown
    assert host.active() == ["active"] * 4

    host.shell(_LATE)
    assert host.active() == ["active"] * 4

    assert is_well(host.shell(f". /etc/devicestat/operator.env\n{block('Upgrade')}"))
    host.shell(block("Certificates"))
    host.shell(block("Backup"))
    assert host.active() == ["active"] * 4

    other = debian("other")
    other.shell("\n".join(block(heading) for heading in FIRST))
    for file in ("devicestat.dump", "devicestat.tar"):
        saved = docker("cp", f"{host.name}:/root/{file}", "-").stdout
        assert docker("cp", "-", f"{other.name}:/root", input=saved).returncode == 0
    assert is_well(other.shell(block("Restore")))
    assert other.active() == ["active"] * 4
    assert json.loads(other.shell(LATEST.format(key=key))) == json.loads(reading)
