"""The OpenAPI document is valid, and names each operation."""

import json
import re
from typing import Any

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from tests.application import application


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(json.dumps(application().openapi_schema.to_schema()))
    return found


def test_it_is_valid(document: dict[str, Any]) -> None:
    faults = [
        f"{list(fault.absolute_path)}: {fault.message}" for fault in OpenAPIV31SpecValidator(document).iter_errors()
    ]
    assert faults == []


def test_each_operation_has_a_short_unique_name(document: dict[str, Any]) -> None:
    names = [operation["operationId"] for path in document["paths"].values() for operation in path.values()]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"[a-z]+(_[a-z]+){0,3}", name) for name in names), names
    assert {"list_devices", "create_readings", "list_readings", "analyse_now", "queue_analysis"} <= set(names)


def test_responses_to_wrong_parameters_and_ranges_are_documented(document: dict[str, Any]) -> None:
    operations = {
        f"{method} {path}": operation
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    }
    ours = {name: operation for name, operation in operations.items() if operation["tags"] != ["operation"]}
    assert [name for name, operation in ours.items() if "422" not in operation["responses"]] == []
    part = operations["get /stats/{device_id}"]["responses"]["206"]
    assert "text/csv" in part["content"]
    assert "application/json" not in part["content"]
