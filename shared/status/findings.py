"""What a check has found, as `devicestat doctor` and `GET /status` show it."""

from enum import StrEnum

import msgspec


class Severity(StrEnum):
    """Severity of a finding. Only `wrong` sets the exit code of `devicestat doctor` to 1."""

    OK = "ok"
    WARNING = "warning"
    WRONG = "wrong"


class Finding(msgspec.Struct, frozen=True):
    """Result of one check. `what`: its subject. `text`: the result and, if something is wrong, how to repair it."""

    severity: Severity
    what: str
    text: str
