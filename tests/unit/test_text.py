"""Timestamps of CSV and NDJSON, for any times and lines."""

import asyncio
import struct
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from query_api.readings.formats.text import TimestampEncoder

ZONES = [
    "Europe/Berlin", "America/St_Johns", "Australia/Lord_Howe", "Africa/Monrovia", "Asia/Kathmandu", "Pacific/Apia",
    "Africa/Casablanca", "Etc/UTC", "America/New_York",
]  # fmt: skip
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


def near_changes(name: str) -> list[datetime]:
    """The moments around each change of the offset from 1970 to 2040."""
    zone, found = ZoneInfo(name), []
    at = datetime(1970, 1, 1, tzinfo=UTC)
    while at.year < 2040:
        later = at + timedelta(hours=12)
        if at.astimezone(zone).utcoffset() != later.astimezone(zone).utcoffset():
            found += [at + timedelta(minutes=minute, microseconds=us) for minute in range(0, 721, 15) for us in (-1, 0)]
        at = later
    return [moment.replace(tzinfo=None) for moment in found]


def in_zone(at: datetime, zone: ZoneInfo) -> datetime:
    return at.replace(tzinfo=UTC).astimezone(zone)


def check(moments: list[datetime], name: str) -> None:
    """Compare the timestamps in the zone with those of datetime. An offset with seconds is rounded."""
    zone = ZoneInfo(name)
    given = "".join(f"{copied(at)[:16]}0123456789+00:00\n" for at in moments)
    lines = asyncio.run(TimestampEncoder(b"", 0, zone).encode(given.encode(), False)).decode().splitlines()
    assert [datetime.fromisoformat(line) for line in lines] == [at.replace(tzinfo=UTC) for at in moments]
    for line, at in zip(lines, moments, strict=True):
        local = in_zone(at, zone)
        offset = local.utcoffset()
        assert offset is not None
        assert len(line) == 32
        if not offset % timedelta(minutes=1):
            assert line == local.isoformat(timespec="microseconds")


@given(st.lists(st.datetimes(datetime(2, 1, 1), datetime(9998, 12, 31)), max_size=30), st.sampled_from(ZONES))  # noqa: DTZ001
def test_timestamps_in_a_zone_are_the_same_moments(times: list[datetime], name: str) -> None:
    check(times, name)


@pytest.mark.parametrize("name", ZONES)
def test_timestamps_at_changes_of_the_clocks(name: str) -> None:
    check(near_changes(name)[-2000:], name)
    check([datetime(1, 1, 1), datetime(9999, 12, 31, 23, 59)], "Etc/UTC")  # noqa: DTZ001
    given = f"{copied(LATE)[:16]}0123456789+00:00\n".encode()
    late = asyncio.run(TimestampEncoder(b"", 0, ZoneInfo(name)).encode(given, False))
    assert late == b"9999-12-31T23:59:59.999999+00:00\n"
