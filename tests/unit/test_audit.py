"""A known vulnerability fails the check; an unreachable service does not, and is reported."""

import msgspec
import pytest

from tests.audit import Report, verdict

CLEAN = {"name": "clean", "version": "1.0", "vulns": []}
VULNERABLE = {
    "name": "old",
    "version": "1.0",
    "vulns": [{"id": "GHSA-1", "fix_versions": ["1.1"], "aliases": ["CVE-1"], "description": "…"}],
}
HOPELESS = {"name": "left", "version": "2.0", "vulns": [{"id": "GHSA-2", "fix_versions": []}]}
SKIPPED = {"name": "hidden", "skip_reason": "Dependency not found on PyPI and could not be audited: hidden (1.0)"}
UPGRADE = "`make lock UPGRADE=--upgrade` locks the latest versions"


def report(*packages: object) -> Report:
    """Return a report in the form of pip-audit."""
    return msgspec.json.decode(msgspec.json.encode({"dependencies": packages, "fixes": []}), type=Report)


@pytest.mark.parametrize(
    ("reports", "code", "said"),
    [
        ([report(CLEAN)], 0, ["no known vulnerability in 1 packages"]),
        ([report(CLEAN, VULNERABLE)], 1, ["old 1.0 has GHSA-1: fixed in 1.1", UPGRADE]),
        ([report(HOPELESS)], 1, ["left 2.0 has GHSA-2: no version fixes it", UPGRADE]),
        ([report(SKIPPED, VULNERABLE), Report()], 1, ["old 1.0 has GHSA-1: fixed in 1.1", UPGRADE]),
        ([report(SKIPPED), report(VULNERABLE)], 1, ["old 1.0 has GHSA-1: fixed in 1.1", UPGRADE]),
        ([report(SKIPPED, CLEAN), Report()], 0, ["no known vulnerability in 1 packages", "NOT AUDITED: hidden"]),
        (
            [report(SKIPPED), Report()],
            0,
            ["NOT AUDITED: no vulnerability service is reachable"],
        ),
    ],
)
def test_what_was_found_decides(reports: list[Report], code: int, said: list[str]) -> None:
    assert verdict(reports) == (code, said)
