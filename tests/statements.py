"""The SQL statements of the product, as its modules and migrations have them.

A statement is a module constant, or a constant of a class, whose text begins with a command. Modules that build
statements from parts are imported, so that the built text is found.
"""

import ast
import importlib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

ROOT = Path(__file__).parents[1]
PACKAGES = ("shared", "ingestor", "query_api", "deploy")
_COMMAND = re.compile(
    r"\s*(SELECT|WITH|INSERT|UPDATE|DELETE|COPY|TRUNCATE|LOCK|ALTER|CREATE|SET|BEGIN|LISTEN|NOTIFY|TABLE|DO)\s",
    re.ASCII,
)


class Statement(msgspec.Struct, frozen=True):
    """A statement of a module. `name`: `package.module.CONSTANT`, with a key or a place if the constant has several."""

    name: str
    text: str

    @property
    def command(self) -> str:
        """The first word."""
        return self.text.split(maxsplit=1)[0].upper()


def statements() -> list[Statement]:
    """Return the statements of all modules, in the order of their names."""
    return sorted((one for module in _modules() for one in _of_module(module)), key=lambda one: one.name)


def _modules() -> Iterator[str]:
    for package in PACKAGES:
        for file in sorted((ROOT / package).rglob("*.py")):
            if "node_modules" not in file.parts and _has_statements(file):
                parts = file.relative_to(ROOT).with_suffix("").parts
                yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _has_statements(file: Path) -> bool:
    """Return whether a string in the file begins with a command."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    constants = (node.value for node in ast.walk(tree) if isinstance(node, ast.Constant))
    return any(_is_statement(value) for value in constants)


def _of_module(name: str) -> Iterator[Statement]:
    module = importlib.import_module(name)
    for constant, value in vars(module).items():
        for place, text in _texts(value):
            yield Statement(f"{name}.{constant}{place}", text)


def _texts(value: Any) -> Iterator[tuple[str, str]]:
    if _is_statement(value):
        yield "", value.decode() if isinstance(value, bytes) else value
    elif isinstance(value, msgspec.Struct):
        yield from _texts(msgspec.structs.asdict(value))
    elif isinstance(value, Mapping):
        for key, one in value.items():
            yield from ((f"[{key}]{place}", text) for place, text in _texts(one))
    elif isinstance(value, tuple | list):
        for number, one in enumerate(value):
            yield from ((f"[{number}]{place}", text) for place, text in _texts(one))


def _is_statement(value: object) -> bool:
    text = value.decode(errors="replace") if isinstance(value, bytes) else value
    return isinstance(text, str) and _COMMAND.match(text) is not None
