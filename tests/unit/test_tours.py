"""The docstring of each package is a tour of all its modules. Tours and maps name only files that exist."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MOST = 13
"""Modules and packages in one package."""
EACH_OTHER = "Each other file"
"""In the tour of a package with files of one kind, as query_api/worker/cleaning."""
PACKAGES = sorted(
    init.parent for top in ("deploy", "ingestor", "query_api", "shared") for init in (ROOT / top).rglob("__init__.py")
)
MAPS = ("ARCHITECTURE.md", "CONTRIBUTING.md")


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def rooms(package: Path) -> dict[str, str]:
    """The modules and packages in a package, each with the forms of its name in a tour."""
    modules = {path.stem: rf"`(\w+/)*{path.stem}(\.py)?`" for path in package.glob("*.py") if path.stem != "__init__"}
    packages = {init.parent.name: f"`{init.parent.name}/`" for init in package.glob("*/__init__.py")}
    return modules | packages


def tour(package: Path) -> str:
    return ast.get_docstring(ast.parse((package / "__init__.py").read_text())) or ""


@pytest.mark.parametrize("package", PACKAGES, ids=name_of)
def test_a_tour_names_every_room(package: Path) -> None:
    found = tour(package)
    missing = [room for room, name in rooms(package).items() if not re.search(name, found)]
    assert not missing or EACH_OTHER in found


@pytest.mark.parametrize("package", PACKAGES, ids=name_of)
def test_a_package_has_few_rooms(package: Path) -> None:
    assert len(rooms(package)) <= MOST


@pytest.mark.parametrize("package", PACKAGES, ids=name_of)
def test_a_tour_names_only_what_exists(package: Path) -> None:
    places = [package, *package.parents]
    named = re.findall(r"`([\w./]+(?:\.py|/))`", tour(package))
    assert [name for name in named if not any((place / name).exists() for place in places)] == []


@pytest.mark.parametrize("document", MAPS)
def test_a_map_names_only_what_exists(document: str) -> None:
    files = [name_of(path) for path in ROOT.rglob("*.py") if not {".venv", "node_modules"} & {*path.parts}]
    named = re.findall(r"`([\w./]+\.py)`", (ROOT / document).read_text())
    assert named
    assert [name for name in named if not any(f"/{file}".endswith(f"/{name}") for file in files)] == []
