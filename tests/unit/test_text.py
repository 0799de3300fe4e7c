"""Timestamps of CSV and NDJSON, for any times and lines."""

import asyncio
import struct
from datetime import UTC, datetime, timedelta

from hypothesis import example, given
from hypothesis import strategies as st

from query_api.readings.formats.text import TimestampEncoder

EPOCH = datetime(2000, 1, 1)  # noqa: DTZ001  # of a binary timestamptz
LATE = datetime(9999, 12, 31, 23, 59, 59, 999_999)  # noqa: DTZ001
TIMES = st.datetimes(datetime(1, 1, 1), LATE)  # noqa: DTZ001
LINES = st.lists(st.tuples(st.text("0123456789,.:{}", max_size=30), TIMES), max_size=40)


def written(at: datetime) -> str:
    return at.replace(tzinfo=UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def copied(at: datetime) -> str:
    return struct.pack(">q", (at - EPOCH) // timedelta(microseconds=1)).hex() + "0123456789Z"


@given(LINES, st.text("}\"']", max_size=4))
@example([("", datetime(1, 1, 1)), ("", LATE)] * 2, "")  # noqa: DTZ001
def test_the_timestamp_of_each_line(lines: list[tuple[str, datetime]], behind: str) -> None:
    given = "".join(f"{line}{copied(at)}{behind}\n" for line, at in lines)
    encode = TimestampEncoder(b"a header\n", len(behind)).encode
    first = asyncio.run(encode(given.encode(), True))
    second = asyncio.run(encode(given.encode(), False))
    expected = "".join(f"{line}{written(at)}{behind}\n" for line, at in lines)
    assert (first.decode(), second.decode()) == (f"a header\n{expected}", expected)
