"""Output of the doctor's findings."""

from collections.abc import Iterable

from psycopg.errors import InsufficientPrivilege

from shared.status.findings import Finding, Severity


def report(what: str, severity: Severity, texts: Iterable[str]) -> str:
    """Return the lines of a finding."""
    return "\n".join(f"{severity:<8} {what:<15} {text}" for text in texts)


def not_allowed(what: str, error: InsufficientPrivilege) -> Finding:
    """Return the finding for a check that the database role is not allowed to run."""
    advice = "run the doctor with the DEVICESTAT_DATABASE_URL of the tables' owner"
    return Finding(Severity.WARNING, what, f"{str(error).splitlines()[0]}: {advice}")
