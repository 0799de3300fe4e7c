"""`python -m tests.audit`: audits the packages of requirements.lock with pip-audit.

Exits with 1 if one has a known vulnerability. If no vulnerability service responds, it prints that nothing was audited,
and exits with 0, so that the check passes without the internet.
"""

import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import msgspec

LOCK = Path(__file__).parents[1] / "requirements.lock"
SERVICES = ("pypi", "osv")
TIMEOUT_S = 300


class Vulnerability(msgspec.Struct, frozen=True):
    """A known vulnerability of a version."""

    id: str
    fix_versions: tuple[str, ...] = ()


class Package(msgspec.Struct, frozen=True):
    """pip-audit's result for a package. `skip_reason`: why it was not audited."""

    name: str
    version: str = ""
    vulns: tuple[Vulnerability, ...] = ()
    skip_reason: str | None = None

    def faults(self) -> Iterator[str]:
        """Return a line for each vulnerability."""
        for known in self.vulns:
            remedy = f"fixed in {' or '.join(known.fix_versions)}" if known.fix_versions else "no version fixes it"
            yield f"{self.name} {self.version} has {known.id}: {remedy}"


class Report(msgspec.Struct, frozen=True):
    """pip-audit's report."""

    dependencies: tuple[Package, ...] = ()

    @property
    def audited(self) -> int:
        """Return the number of audited packages."""
        return sum(package.skip_reason is None for package in self.dependencies)


def ask(service: str, lock: Path) -> Report:
    """Query one service; return an empty report if it does not respond."""
    command = [sys.executable, "-m", "pip_audit", "--requirement", str(lock), "--vulnerability-service", service]
    options = ["--no-deps", "--disable-pip", "--progress-spinner", "off", "--format", "json"]
    try:
        ran = subprocess.run([*command, *options], capture_output=True, check=False, timeout=TIMEOUT_S)
        return msgspec.json.decode(ran.stdout, type=Report)
    except (subprocess.TimeoutExpired, msgspec.DecodeError):
        return Report()


def verdict(reports: list[Report]) -> tuple[int, list[str]]:
    """Return the exit code and the output."""
    best = max(reports, key=lambda report: report.audited)
    faults = [fault for report in reports for package in report.dependencies for fault in package.faults()]
    if faults:
        advice = "`make lock UPGRADE=--upgrade` locks the latest versions"
        return 1, [*dict.fromkeys(faults), advice]
    if not best.audited:
        return 0, ["NOT AUDITED: no vulnerability service is reachable"]
    unknown = [package.name for package in best.dependencies if package.skip_reason is not None]
    found = f"no known vulnerability in {best.audited} packages"
    return 0, [found, *([f"NOT AUDITED: {', '.join(unknown)}"] if unknown else [])]


def main() -> int:
    """Query the services until one has audited every package."""
    if find_spec("pip_audit") is None:
        sys.stderr.write("audit: pip-audit is not installed: run `make setup`\n")
        return 1
    reports = []
    for service in SERVICES:
        reports.append(ask(service, LOCK))
        if 0 < reports[-1].audited == len(reports[-1].dependencies):
            break
    code, lines = verdict(reports)
    out = sys.stderr if code else sys.stdout
    out.writelines(f"audit: {line}\n" for line in lines)
    return code


if __name__ == "__main__":
    sys.exit(main())
