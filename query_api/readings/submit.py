"""The handler that stores readings."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, cast

import msgspec
from litestar import Response, post
from litestar.di import NamedDependency
from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import Operation
from litestar.params import BodyKwarg, SkipValidation
from litestar.status_codes import HTTP_200_OK, HTTP_201_CREATED

from query_api.access.rules import Permission, Principal
from query_api.readings.intake import Intake, NewReading, Submission, Taken
from query_api.readings.record import StoredReading
from query_api.web.answers import problems
from query_api.web.answers.operations import bound_array
from query_api.web.answers.problems import AnyRequest, documented
from query_api.web.gate import forbidden
from query_api.web.limits.callers import caller_of
from query_api.web.resource import Resource
from shared.event_loop.parts import in_parts
from shared.readings.model import to_datetime
from shared.readings.rules import MAX_READINGS


@dataclass
class _SubmitOperation(Operation):
    """Documents the bounds of the array, which Litestar does not find in a union."""

    def __post_init__(self) -> None:
        bound_array(self, 1, MAX_READINGS)


@post(
    "/",
    permission=Permission.STORE,
    operation_class=_SubmitOperation,
    summary="Store one or more readings",
    response_description="Stored.",
    responses={
        HTTP_200_OK: ResponseSpec(
            cast("Any", StoredReading | list[StoredReading]),  # a union is no class
            generate_examples=False,
            description="All readings were stored before. Each has the id of the stored one.",
        ),
        **documented(
            problems.UNKNOWN_DEVICE,
            problems.TOO_LARGE,
            problems.UNSUPPORTED_MEDIA_TYPE,
            problems.INVALID_VALUE,
        ),
    },
)
async def create_readings(
    data: Annotated[
        NewReading | Annotated[list[NewReading], msgspec.Meta(min_length=1, max_length=MAX_READINGS)],
        BodyKwarg(description=f"One reading, or an array of 1 to {MAX_READINGS:,}: all are stored, or none."),
    ],
    intake: NamedDependency[SkipValidation[Intake]],
    request: AnyRequest,
) -> Response[StoredReading | list[StoredReading]]:
    """Return the stored reading, or an array of stored readings in the order of the request.

    A reading that was stored before (same device, time and values) is not stored again: the response has the id of the
    stored one. If all readings were stored before, the status is 200.
    """
    given = Submission(data, True) if isinstance(data, list) else Submission([data], False)
    _require_own(request.auth, given)
    taken = await intake.take(given, caller_of(request.scope))
    answer = await _stored(taken)
    status = HTTP_201_CREATED if taken.stored.is_new.any() else HTTP_200_OK
    return Response(answer if given.is_array else answer[0], status_code=status)


async def _stored(taken: Taken) -> list[StoredReading]:
    columns, ids = taken.readings.columns(), taken.stored.ids

    def stored(part: Sequence[int]) -> list[StoredReading]:
        within = slice(part[0], part[-1] + 1)
        return [
            StoredReading(id=stored_id, device_id=device_id, x=x, y=y, z=z, timestamp=to_datetime(recorded_at))
            for stored_id, (device_id, recorded_at, _, x, y, z) in zip(
                ids[within].tolist(), columns[within].tolist(), strict=True
            )
        ]

    return [one for part in await in_parts(range(len(ids)), stored) for one in part]


def _require_own(principal: Principal, given: Submission) -> None:
    """Raise Refused if a device submits readings of another device."""
    if principal.device_id is not None and any(new.device_id != principal.device_id for new in given.readings):
        raise forbidden(f"this is the token of device {principal.device_id}, and stores only its readings")


router = Resource("/stats", route_handlers=[create_readings], tags=["readings"])
