"""`python -m tests.dashboard.records`: writes the records of the API as TypeScript, for the types of the dashboard.

The records are the schemas of the OpenAPI document. tsc reads query_api/dashboard/records.d.ts, which git ignores.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from query_api.dashboard.assets import FOLDER
from tests.application import application

TARGET = FOLDER / "records.d.ts"
_PRIMITIVES = {
    "string": "string", "integer": "number", "number": "number", "boolean": "boolean", "null": "null",
}  # fmt: skip
Schema = Mapping[str, Any]


def type_of(schema: Schema) -> str:
    """Return the TypeScript type of a schema."""
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    for several in ("oneOf", "anyOf"):
        if several in schema:
            return " | ".join(dict.fromkeys(type_of(one) for one in schema[several]))
    if "allOf" in schema:
        return " & ".join(type_of(one) for one in schema["allOf"])
    if "enum" in schema:
        return " | ".join(json.dumps(value) for value in schema["enum"])
    return _type_named(schema)


def _type_named(schema: Schema) -> str:
    match schema.get("type"):
        case list() as names:
            return " | ".join(_type_named({**schema, "type": name}) for name in names)
        case "array":
            return f"Array<{type_of(schema.get('items', {}))}>"
        case "object":
            values = schema.get("additionalProperties")
            return f"Record<string, {type_of(values) if isinstance(values, Mapping) else 'unknown'}>"
        case name:
            return _PRIMITIVES.get(str(name), "unknown")


def interface(name: str, schema: Schema) -> Iterator[str]:
    """Return the lines of a record."""
    if "properties" not in schema:
        yield f"export type {name} = {type_of(schema)};"
        return
    required = schema.get("required", ())
    yield f"export interface {name} {{"
    for field, kind in schema["properties"].items():
        yield f"  {field}{'' if field in required else '?'}: {type_of(kind)};"
    yield "}"


def records() -> str:
    """Return the file."""
    document = json.loads(json.dumps(application().openapi_schema.to_schema()))
    schemas = document["components"]["schemas"]
    lines = [line for name, schema in schemas.items() for line in interface(name, schema)]
    return "\n".join(["// Written by `python -m tests.dashboard.records`.", *lines, ""])


def write(target: Path = TARGET) -> None:
    """Write the file."""
    target.write_text(records())


if __name__ == "__main__":
    write()
