"""Hooks for schemathesis (SCHEMATHESIS_HOOKS): refusals that the OpenAPI document cannot express.

A schema cannot state that a period begins before it ends, or that a device exists. This file lists each such reason by
the type of the problem, the field, and a pattern of its text. Any other refusal is a finding.
"""

import json
import re

import schemathesis
from schemathesis import Case, CheckContext, Response

REASONS = [
    ("reversed-period", r"start", r"is after end"),
    ("invalid-value", r"cursor", r"a stream has no pages"),
    ("bad-cursor", r"cursor", r"not a cursor of this list"),
    ("unknown-device", r".*device_id", r"there is no device"),
    (
        "invalid-value",
        r".*timestamp",
        r"days old|looks like|since 1970|ahead of the clock|outside of the years",
    ),
    ("invalid-value", r"start|end", r"outside of the years"),
    ("invalid-value", r"timezone", r"IANA time zone"),
    ("invalid-value", r"cron", r"takes|never ticks|range|step|is none of"),
    ("invalid-value", r"period", r"at least a second and at most a century"),
    ("invalid-value", r"callback", r"has no secret"),
    ("invalid-value", r"\[\d+\]\.key", r"repeats the key of"),
    ("invalid-value", r"min|max", r"less than max|both min and max"),
    ("invalid-value", r"expires_at", r"is in the past|outside of the years"),
    ("invalid-value", r"name", r"printable characters"),
    ("invalid-value", r"topic", r"expected a topic filter"),
    ("invalid-value", r"everything", r"expected true, or a condition"),
    ("invalid-value", r"actor", r"NUL"),
]


def is_expected(problem: str, field: str, words: str) -> bool:
    """Return whether the refusal is listed."""
    return any(
        problem == f"/problems/{name}" and re.fullmatch(path, field) and re.search(said, words)
        for name, path, said in REASONS
    )


@schemathesis.check
def refused_for_a_reason_that_no_schema_has(ctx: CheckContext, response: Response, case: Case) -> None:
    """Check that replaces positive_data_acceptance for status 400 and 422."""
    positive = case.meta is not None and case.meta.generation.mode.is_positive
    if not positive or response.status_code not in (400, 422):
        return
    problem = json.loads(response.content)
    faults = problem.get("errors", [{"field": "", "detail": problem["detail"]}])
    unexpected = [f for f in faults if not is_expected(problem["type"], f["field"], f["detail"])]
    assert not unexpected, f"the document allows what is refused: {problem['type']}: {unexpected}"
