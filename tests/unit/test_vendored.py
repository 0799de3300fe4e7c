"""The files of npm packages: the service and the wheel have the same, and the lock names versions and hashes only."""

import json
import tomllib
from pathlib import Path

from query_api.dashboard import vendored
from query_api.dashboard.assets import FOLDER

ROOT = Path(__file__).parents[2]
LOCK = json.loads((FOLDER / "package-lock.json").read_text())
PACKAGE = json.loads((FOLDER / "package.json").read_text())


def test_a_build_includes_the_files_and_no_others() -> None:
    build = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]
    files = [f"query_api/dashboard/{name}" for name in (*vendored.SERVED, *vendored.LICENSES)]
    assert sorted(build["artifacts"]) == sorted(files)
    assert build["exclude"] == [f"query_api/dashboard/{vendored.MODULES}"]


def test_the_lock_has_a_hash_for_each_package_and_no_registry() -> None:
    packages = {name: package for name, package in LOCK["packages"].items() if name}
    assert [name for name, package in packages.items() if not package["integrity"].startswith("sha512-")] == []
    assert [name for name, package in packages.items() if "resolved" in package] == []


def test_versions_are_pinned() -> None:
    wanted = {**PACKAGE["dependencies"], **PACKAGE["devDependencies"]}
    assert {name: LOCK["packages"][f"node_modules/{name}"]["version"] for name in wanted} == wanted
