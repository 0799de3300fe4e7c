"""The wheel has everything that its commands need, and packages import each other in one direction."""

import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

from query_api.dashboard import vendored
from tests.command import environment
from tests.waiting import HANG_S

ROOT = Path(__file__).parents[2]
BIN = Path(sysconfig.get_path("scripts"))


def call(*argv: object, cwd: Path, **settings: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(part) for part in argv],
        cwd=cwd,
        env=environment(**settings),
        capture_output=True,
        text=True,
        timeout=HANG_S,
        check=False,
    )


def tree_of_the_image(tree: Path) -> Path:
    """Copy what deploy/Dockerfile copies. It has no .gitignore, which would exclude files from the wheel."""
    tree.mkdir()
    for file in ("pyproject.toml", "README.md", "LICENSE", "mosquitto.conf"):
        shutil.copy(ROOT / file, tree)
    for package in ("deploy", "ingestor", "query_api", "shared"):
        shutil.copytree(ROOT / package, tree / package, ignore=shutil.ignore_patterns("node_modules", "__pycache__"))
    modules = Path("query_api/dashboard") / vendored.MODULES
    for package in ("lit-html", "uplot", "swagger-ui-dist"):
        shutil.copytree(ROOT / modules / package, tree / modules / package)
    return tree


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with the built wheel. It uses the dependencies of this environment, but not the project."""
    folder = tmp_path_factory.mktemp("wheel")
    tree = tree_of_the_image(folder / "tree")
    built = call(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, tree, cwd=folder)
    assert built.returncode == 0, built.stdout + built.stderr
    (wheel,) = folder.glob("*.whl")
    place = folder / "venv"
    venv.create(place, symlinks=True)
    python = place / "bin" / "python"
    installed = call(
        BIN / "pip", "--python", python, "install", "--no-deps", "--no-index", "--quiet", wheel, cwd=folder
    )
    assert installed.returncode == 0, installed.stderr
    (site,) = place.glob("lib/python*/site-packages")
    (site / "lent.pth").write_text(sysconfig.get_path("purelib"))  # a .pth file there is not read
    return place


COMMANDS = [
    ("up",),
    ("migrate",),
    ("ingest",),
    ("serve",),
    ("work",),
    ("simulate",),
    ("doctor",),
    ("dead-letters", "list"),
    ("dead-letters", "show"),
    ("dead-letters", "replay"),
    ("dead-letters", "purge"),
]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_the_wheel_starts_every_command(clean: Path, tmp_path: Path, command: tuple[str, ...]) -> None:
    helped = call(clean / "bin" / "devicestat", *command, "--help", cwd=tmp_path)
    assert helped.returncode == 0, helped.stderr
    assert helped.stdout.startswith(f"Usage: devicestat {' '.join(command)}")


def test_the_wheel_is_what_runs(clean: Path, tmp_path: Path) -> None:
    where = "import deploy, ingestor, query_api, shared; print(deploy.__file__, shared.__file__)"
    found = call(clean / "bin" / "python", "-c", where, cwd=tmp_path).stdout
    assert found.count(str(clean)) == 2


def test_the_wheel_brings_the_migrations_and_the_brokers_configuration(
    clean: Path, tmp_path: Path, empty_database_url: str
) -> None:
    migrated = call(clean / "bin" / "devicestat", "migrate", cwd=tmp_path, database_url=empty_database_url)
    assert migrated.returncode == 0, migrated.stderr
    assert "0001 devices" in migrated.stdout
    configuration = "from importlib.resources import files; print((files('deploy') / 'mosquitto.conf').read_text())"
    shown = call(clean / "bin" / "python", "-c", configuration, cwd=tmp_path).stdout
    assert shown.strip() == (ROOT / "mosquitto.conf").read_text().strip()


def test_the_wheel_brings_the_dashboard(clean: Path, tmp_path: Path) -> None:
    ask = "from query_api.dashboard import assets, vendored; assets.read_assets(); print(assets.FOLDER)"
    folder = Path(call(clean / "bin" / "python", "-c", ask, cwd=tmp_path).stdout.strip())
    assert folder.is_relative_to(clean)
    found = [str(path.relative_to(folder)) for path in (folder / vendored.MODULES).rglob("*") if path.is_file()]
    assert sorted(found) == sorted((*vendored.SERVED, *vendored.LICENSES))


@pytest.mark.parametrize("command", ["ingest", "serve", "work", "migrate"])
def test_a_command_without_its_settings_says_which(clean: Path, tmp_path: Path, command: str) -> None:
    ended = call(clean / "bin" / "devicestat", command, cwd=tmp_path)
    assert ended.returncode == 1
    assert "DEVICESTAT_DATABASE_URL is not set: expected postgresql://" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_the_packages_import_each_other_in_one_direction() -> None:
    linted = call(BIN / "lint-imports", cwd=ROOT)
    assert linted.returncode == 0, linted.stdout
    assert " 0 broken" in linted.stdout
