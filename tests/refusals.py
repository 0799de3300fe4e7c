"""Loaded by schemathesis (SCHEMATHESIS_HOOKS): what may be refused though the document allows it.

A schema cannot say that a period begins before it ends, or that a device is there. Each such reason stands here, by
the problem's name, the field that it names, and its words; a request that is refused for any other is a finding.
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
]


def is_expected(problem: str, field: str, words: str) -> bool:
    """Whether it is one of the reasons."""
    return any(
        problem == f"/problems/{name}" and re.fullmatch(path, field) and re.search(said, words)
        for name, path, said in REASONS
    )


@schemathesis.check
def refused_for_a_reason_that_no_schema_has(ctx: CheckContext, response: Response, case: Case) -> None:
    """Stands in for positive_data_acceptance where the status is 400 or 422."""
    positive = case.meta is not None and case.meta.generation.mode.is_positive
    if not positive or response.status_code not in (400, 422):
        return
    problem = json.loads(response.content)
    faults = problem.get("errors", [{"field": "", "detail": problem["detail"]}])
    unexpected = [f for f in faults if not is_expected(problem["type"], f["field"], f["detail"])]
    assert not unexpected, f"the document allows what is refused: {problem['type']}: {unexpected}"
