"""Measurements and refusals: the results of decoding a payload. Pure."""

from collections.abc import Iterator, Sequence
from itertools import repeat
from typing import Any, overload

import msgspec
from numpy.typing import NDArray

from shared.readings.model import Microseconds, Reason

Column = NDArray[Any]


class Measurement(msgspec.Struct, frozen=True, gc=False):
    """One measurement of a device. `recorded_at`: None if the payload has no timestamp."""

    x: float
    y: float
    z: float
    recorded_at: Microseconds | None


class Refusal(msgspec.Struct, frozen=True, gc=False):
    """The reason why the payload, or one element of its array, is refused."""

    reason: Reason
    detail: str


class RefusedPayload(Exception):
    """The payload, or one element of its array, is refused."""

    def __init__(self, reason: Reason, detail: str) -> None:
        self.reason = reason
        self.detail = detail
        super().__init__(detail)


class Measurements(Sequence[Measurement]):
    """The measurements of an array without refused elements, in columns.

    `axes`: x, y and z. `recorded_at`: None if no element has a timestamp.
    """

    def __init__(self, axes: Sequence[Column], recorded_at: Column | None) -> None:
        self.axes = axes
        self.recorded_at = recorded_at

    def __len__(self) -> int:
        return len(self.axes[0])

    @overload
    def __getitem__(self, index: int) -> Measurement: ...

    @overload
    def __getitem__(self, index: slice) -> "Measurements": ...

    def __getitem__(self, index: int | slice) -> "Measurement | Measurements":
        recorded_at = None if self.recorded_at is None else self.recorded_at[index]
        axes = [axis[index] for axis in self.axes]
        if isinstance(index, slice):
            return Measurements(axes, recorded_at)
        x, y, z = map(float, axes)
        return Measurement(x, y, z, None if recorded_at is None else int(recorded_at))

    def __iter__(self) -> Iterator[Measurement]:
        recorded_at = repeat(None) if self.recorded_at is None else self.recorded_at.tolist()
        return map(Measurement, *(axis.tolist() for axis in self.axes), recorded_at)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]  # like a list


Results = Sequence[Measurement | Refusal]
"""The result for each element of a message."""
