"""Packed rows equal a list of readings, and are packed in the binary format of COPY."""

import struct
from datetime import UTC, datetime
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.readings.model import DAY, Reading, to_microseconds
from shared.readings.rows import ROW_BYTES, Rows
from shared.readings.store import pack

POSTGRES_EPOCH = to_microseconds(datetime(2000, 1, 1, tzinfo=UTC))

numbers = st.integers(-(2**62), 2**62)
axes = st.floats(allow_nan=False)
readings = st.builds(Reading, st.integers(1, 4) | numbers, numbers, numbers, axes, axes, axes)
lists = st.lists(readings, max_size=20)


@given(lists, lists, st.data())
def test_rows_are_a_sequence_of_readings(first: list[Reading], then: list[Reading], data: st.DataObject) -> None:
    rows = Rows.of(first)
    rows += then
    for reading in first:
        rows.append(reading)
    rows += Rows.of(then)
    expected = [*first, *then, *first, *then]
    assert Rows.of(rows) is rows
    assert (len(rows), bool(rows), list(rows)) == (len(expected), bool(expected), expected)
    begin, end = (data.draw(st.integers(0, len(expected))) for _ in range(2))
    assert list(rows[begin:end]) == expected[begin:end]
    if expected:
        place = data.draw(st.integers(-len(expected), len(expected) - 1))
        assert rows[place] == expected[place]
    with pytest.raises(IndexError):
        rows[len(expected)]


@given(lists)
def test_rows_know_their_devices(given_: list[Reading]) -> None:
    rows = Rows.of(given_)
    devices = {reading.device_id for reading in given_}
    assert rows.devices() == devices
    by_device = {device: list(own) for device, own in rows.by_device()}
    assert by_device == {device: [r for r in given_ if r.device_id == device] for device in devices}
    assert [r for r in given_ if r.device_id in (1, 2)] == list(rows.of_devices({1, 2}))
    assert [(9, r.recorded_at, r.x) for r in given_] == [(r.device_id, r.recorded_at, r.x) for r in rows.moved_to(9)]
    assert list(rows) == given_


@given(lists)
def test_a_run_holds_the_moments_of_its_readings(given_: list[Reading]) -> None:
    runs = list(Rows.of(given_).runs())
    assert all(a[0] != b[0] for a, b in pairwise(runs))
    assert {moment for run in runs for moment in run[1:]} <= {reading.recorded_at for reading in given_}
    for device in {reading.device_id for reading in given_}:
        moments = [reading.recorded_at for reading in given_ if reading.device_id == device]
        own = [run for run in runs if run[0] == device]
        assert (min(run[1] for run in own), max(run[2] for run in own)) == (min(moments), max(moments))


@given(st.lists(st.tuples(axes, axes, axes), min_size=1), st.integers(1, 64), st.booleans())
def test_columns_become_rows(values: list[tuple[float, float, float]], step: int, timed: bool) -> None:
    rows, received = Rows(), range(10**15, 10**15 + step * len(values), step)
    recorded = [moment - 5 for moment in received] if timed else list(received)
    columns = [np.array(column, ">f8") for column in zip(*values, strict=True)]
    rows.extend_columns(7, np.array(recorded) if timed else None, received, columns)
    expected = [Reading(7, *moments, *axes) for *moments, axes in zip(recorded, received, values, strict=True)]
    assert (list(rows), len(rows.buffer)) == (expected, ROW_BYTES * len(values))


@given(lists)
def test_rows_are_packed_for_copy(given_: list[Reading]) -> None:
    """https://www.postgresql.org/docs/current/sql-copy.html, "Binary Format"."""
    expected = b"".join(
        struct.pack(
            ">h iq iq iq id id id", 6, 8, r.device_id, 8, r.recorded_at - POSTGRES_EPOCH,
            8, r.received_at - POSTGRES_EPOCH, 8, r.x, 8, r.y, 8, r.z,
        )
        for r in given_
    )  # fmt: skip
    assert pack(given_) == pack(Rows.of(given_)) == b"PGCOPY\n\xff\r\n\0" + bytes(8) + expected + b"\xff\xff"


@given(st.lists(st.tuples(st.integers(1, 3), st.integers(-3 * DAY, 3 * DAY))))
def test_the_days_of_each_device(given_readings: list[tuple[int, int]]) -> None:
    rows = Rows.of(Reading(device_id, at, 0, 0.0, 0.0, 0.0) for device_id, at in given_readings)
    assert list(rows.days()) == sorted({(device_id, at // DAY) for device_id, at in given_readings})
