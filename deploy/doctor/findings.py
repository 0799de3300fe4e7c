"""What the doctor has found, and how it is shown."""

from collections.abc import Iterable
from datetime import timedelta
from enum import StrEnum

import msgspec
from psycopg.errors import InsufficientPrivilege

from deploy.cli.terminal import counted


class Severity(StrEnum):
    """How a finding is shown; only `wrong` makes the doctor's exit code 1."""

    OK = "ok"
    WARNING = "warning"
    WRONG = "wrong"


class Finding(msgspec.Struct, frozen=True):
    """What was looked at, how it is and, if it is not as it should be, how to mend it."""

    severity: Severity
    what: str
    text: str


def report(what: str, severity: Severity, texts: Iterable[str]) -> str:
    """The lines of a finding."""
    return "\n".join(f"{severity:<8} {what:<15} {text}" for text in texts)


def not_allowed(what: str, error: InsufficientPrivilege) -> Finding:
    """What the role that asks may not look at."""
    advice = "ask with the DEVICESTAT_DATABASE_URL of the tables' owner"
    return Finding(Severity.WARNING, what, f"{str(error).splitlines()[0]}: {advice}")


_UNITS = ((86_400, "day"), (3600, "hour"), (60, "minute"))


def ago(age: timedelta) -> str:
    """The age in words, in the largest unit of which it has two: 90 seconds ago, 2 minutes ago."""
    seconds = max(0, int(age.total_seconds()))
    for length, unit in _UNITS:
        if seconds >= 2 * length:
            return f"{counted(seconds // length, unit)} ago"
    return f"{counted(seconds, 'second')} ago"
