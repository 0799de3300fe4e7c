"""Readings as packed rows: the contents of a batch.

A row takes 48 bytes; a `Reading` takes 200 with its numbers. One reading is appended by `struct`, an array of
readings of one device by numpy, column by column. Operations on all rows of a batch, such as COPY, use columns.
"""

import struct
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Any, Self, overload

import numpy as np
from numpy.typing import NDArray

from shared.readings.model import DAY, Microseconds, Reading

FIELDS = {"device_id": "i8", "recorded_at": "i8", "received_at": "i8", "x": "f8", "y": "f8", "z": "f8"}
"""The fields of a Reading, in their order, and numpy's names of their types."""
VALUE_BYTES = 8
"""Size of each field."""
ROW_BYTES = VALUE_BYTES * len(FIELDS)
_ROW = struct.Struct("=qqqddd")
pack_row = _ROW.pack
"""Packs the fields of one Reading, in their order, into a row."""
_DTYPE = np.dtype(list(FIELDS.items()))

Column = NDArray[Any]
Run = tuple[int, Microseconds, Microseconds]


class Rows(Sequence[Reading]):
    """A sequence of readings. `buffer`: its rows, consecutive, as `pack_row` returns them."""

    def __init__(self, buffer: bytes | bytearray = b"") -> None:
        self.buffer = bytearray(buffer)

    @classmethod
    def of(cls, readings: Iterable[Reading]) -> "Rows":
        """Return the readings as rows: the argument itself if it is Rows."""
        if isinstance(readings, Rows):
            return readings
        rows = cls()
        rows.extend(readings)
        return rows

    @classmethod
    def joined(cls, batches: Iterable[Iterable[Reading]]) -> "Rows":
        """Return the readings of all batches."""
        rows = cls()
        for batch in batches:
            rows.extend(batch)
        return rows

    def append(self, reading: Reading) -> None:
        """Add one reading."""
        self.extend((reading,))

    def extend(self, readings: Iterable[Reading]) -> None:
        """Add the readings."""
        if isinstance(readings, Rows):
            self.buffer += readings.buffer
        else:
            for r in readings:
                self.buffer += pack_row(r.device_id, r.recorded_at, r.received_at, r.x, r.y, r.z)

    def __iadd__(self, readings: Iterable[Reading]) -> Self:
        self.extend(readings)
        return self

    def extend_columns(
        self, device_id: int | Column, recorded_at: Column | None, received_at: range, axes: Sequence[Column]
    ) -> None:
        """Add readings by their columns. `device_id`: of each or of all. `recorded_at`: None: the times of receipt."""
        rows = np.empty(len(received_at), _DTYPE)
        rows["device_id"] = device_id
        rows["received_at"] = received = np.arange(received_at.start, received_at.stop, received_at.step)
        rows["recorded_at"] = received if recorded_at is None else recorded_at
        rows["x"], rows["y"], rows["z"] = axes
        self.buffer += rows.data

    def __len__(self) -> int:
        return len(self.buffer) // ROW_BYTES

    @overload
    def __getitem__(self, index: int) -> Reading: ...

    @overload
    def __getitem__(self, index: slice) -> "Rows": ...

    def __getitem__(self, index: int | slice) -> "Reading | Rows":
        place = range(len(self))[index]
        if isinstance(place, int):
            return Reading(*_ROW.unpack_from(self.buffer, place * ROW_BYTES))
        assert place.step == 1, "rows are next to each other"
        return Rows(self.buffer[place.start * ROW_BYTES : place.stop * ROW_BYTES])

    def __iter__(self) -> Iterator[Reading]:
        return (Reading(*fields) for fields in _ROW.iter_unpack(bytes(self.buffer)))

    def columns(self) -> Column:
        """Return the rows as an array with the fields of a Reading."""
        return np.frombuffer(bytes(self.buffer), _DTYPE)  # of a copy, as a buffer with a reference cannot grow

    def devices(self) -> set[int]:
        """Return the devices of the readings."""
        return set(np.unique(self.columns()["device_id"]).tolist())

    def of_devices(self, devices: Iterable[int]) -> "Rows":
        """Return the readings of these devices."""
        columns = self.columns()
        return Rows(columns[np.isin(columns["device_id"], list(devices))].tobytes())

    def by_device(self) -> Iterator[tuple[int, "Rows"]]:
        """Yield each device with its readings, in their order."""
        columns = self.columns()
        columns = columns[np.argsort(columns["device_id"], kind="stable")]
        starts = _starts(columns["device_id"])
        for begin, end in pairwise([*starts.tolist(), len(columns)]):
            yield int(columns["device_id"][begin]), Rows(columns[begin:end].tobytes())

    def moved_to(self, device_id: int) -> "Rows":
        """Return the readings with another device."""
        columns = self.columns().copy()
        columns["device_id"] = device_id
        return Rows(columns.tobytes())

    def days(self) -> Iterator[tuple[int, int]]:
        """Yield each device with each day (UTC) of its readings, as a number of days since 1970."""
        columns = self.columns()
        devices, days = columns["device_id"], columns["recorded_at"] // DAY
        order = np.lexsort((days, devices))
        devices, days = devices[order], days[order]
        firsts = np.union1d(_starts(devices), _starts(days))
        yield from zip(devices[firsts].tolist(), days[firsts].tolist(), strict=True)

    def runs(self) -> Iterator[Run]:
        """Yield each run of consecutive readings of one device: the device, the first and the last time."""
        columns = self.columns()
        devices, recorded = columns["device_id"], columns["recorded_at"]
        starts = _starts(devices)
        if len(starts):
            first, last = np.minimum.reduceat(recorded, starts), np.maximum.reduceat(recorded, starts)
            yield from zip(devices[starts].tolist(), first.tolist(), last.tolist(), strict=True)


def _starts(devices: Column) -> Column:
    """Return the indexes at which a run of one device starts."""
    return np.flatnonzero(np.diff(devices, prepend=devices[:1] - 1))
