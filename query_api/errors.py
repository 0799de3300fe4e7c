"""Errors that the query API raises for a client, without HTTP. `web/failures.py` maps each to a problem.

ClientError
├── InvalidFields values are invalid: each field, and the expected value
├── UnknownDevices   no device has these ids
├── UnknownRequest   no queued analysis has this id
├── RequestEnded     an analysis that has finished cannot be cancelled
└── QuotaReached     the key has as many queued analyses or schedules as it may have
"""

import math
from collections.abc import Sequence
from typing import Annotated

import msgspec

MAX_DISPLAYED = 60
"""Characters of a wrong value that a message repeats."""


class Fault(msgspec.Struct, frozen=True):
    """One field that was wrong."""

    field: Annotated[
        str,
        msgspec.Meta(
            description="The field: a parameter's name, or the path to it in the body.",
            examples=["x", "[3].timestamp", "limit"],
        ),
    ]
    detail: Annotated[str, msgspec.Meta(description="The error, and the expected value.", examples=["x is missing"])]


class ClientError(Exception):
    """A request cannot be carried out as it was made."""


class InvalidFields(ClientError):
    """One or more values are wrong."""

    def __init__(self, *faults: Fault) -> None:
        self.faults = faults
        super().__init__("; ".join(f"{fault.field}: {fault.detail}" for fault in faults))


class UnknownDevices(ClientError):
    """No device has these ids."""

    def __init__(self, devices: Sequence[int]) -> None:
        self.devices = tuple(devices)
        super().__init__(f"there is no device {', '.join(map(str, devices))}")


class UnknownRequest(ClientError):
    """No queued analysis has this id."""

    def __init__(self, request_id: int) -> None:
        self.request_id = request_id
        super().__init__(f"there is no analysis request {request_id}")


class RequestEnded(ClientError):
    """The analysis has finished, so it cannot be cancelled. `status`: its final status."""

    def __init__(self, request_id: int, status: str) -> None:
        self.request_id = request_id
        self.status = status
        super().__init__(f"request {request_id} is {status}")


class RequestDone(ClientError):
    """The analysis has succeeded, so there is nothing to retry."""

    def __init__(self, request_id: int) -> None:
        self.request_id = request_id
        super().__init__(f"request {request_id} is done")


class QuotaReached(ClientError):
    """The key has as many of something as a setting allows."""


def displayed(value: object) -> str:
    """Return a value of a client as a message repeats it, shortened."""
    match value:
        case str():
            return repr(value) if len(value) <= MAX_DISPLAYED else f"{value[:MAX_DISPLAYED]!r}…"
        case bool() | None:
            return {True: "true", False: "false", None: "null"}[value]
        case int() if abs(value) > 10**MAX_DISPLAYED:
            return "a number that is too large"
        case float() if math.isinf(value):
            return "a number that is too large"
        case int() | float():
            return str(value)
        case dict():
            return "an object"
    return "an array"
