"""Findings of the doctor, and their output."""

from collections.abc import Iterable
from datetime import timedelta
from enum import StrEnum

import msgspec
from psycopg.errors import InsufficientPrivilege

from deploy.terminal import counted


class Severity(StrEnum):
    """Severity of a finding. Only `wrong` sets the exit code to 1."""

    OK = "ok"
    WARNING = "warning"
    WRONG = "wrong"


class Finding(msgspec.Struct, frozen=True):
    """Result of one check. `what`: its subject. `text`: the result and, if something is wrong, how to repair it."""

    severity: Severity
    what: str
    text: str


def report(what: str, severity: Severity, texts: Iterable[str]) -> str:
    """Return the lines of a finding."""
    return "\n".join(f"{severity:<8} {what:<15} {text}" for text in texts)


def not_allowed(what: str, error: InsufficientPrivilege) -> Finding:
    """Return the finding for a check that the database role is not allowed to run."""
    advice = "run the doctor with the DEVICESTAT_DATABASE_URL of the tables' owner"
    return Finding(Severity.WARNING, what, f"{str(error).splitlines()[0]}: {advice}")


_UNITS = ((86_400, "day"), (3600, "hour"), (60, "minute"))


def ago(age: timedelta) -> str:
    """Return the age in words, in the largest unit of which it has at least two: 90 seconds ago, 2 minutes ago."""
    seconds = max(0, int(age.total_seconds()))
    for length, unit in _UNITS:
        if seconds >= 2 * length:
            return f"{counted(seconds // length, unit)} ago"
    return f"{counted(seconds, 'second')} ago"
