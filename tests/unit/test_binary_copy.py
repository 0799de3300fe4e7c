"""Binary rows, for any division into blocks."""

import struct

from hypothesis import given
from hypothesis import strategies as st

from shared.readings.binary_copy import FLOAT8, POSTGRES_EPOCH, TIMESTAMPTZ, BinaryRows, microseconds

ROWS = st.lists(st.tuples(st.integers(-(2**62), 2**62), st.floats(allow_nan=False)), max_size=20)


@given(ROWS, st.integers(1, 200))
def test_rows_are_unchanged_for_any_division_into_blocks(rows: list[tuple[int, float]], size: int) -> None:
    packed = [struct.pack(">h iq id", 2, 8, at, 8, value) for at, value in rows]
    copied = b"".join((b"PGCOPY\n\xff\r\n\0", bytes(8), *packed, b"\xff\xff"))
    cutter = BinaryRows({"at": TIMESTAMPTZ, "value": FLOAT8})
    assert cutter.row_bytes == 26
    found: list[tuple[int, float]] = []
    for start in range(0, len(copied), size):
        cut = cutter.cut(copied[start : start + size])
        found += zip(microseconds(cut["at"]).tolist(), cut["value"].tolist(), strict=True)
    assert found == [(at + POSTGRES_EPOCH, value) for at, value in rows]
