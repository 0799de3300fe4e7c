"""Links in the programs of analysts: pandas, polars and pyarrow, each with each format."""

import asyncio
import io
import urllib.request
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import httpx
import msgspec
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from pyarrow import csv as arrow_csv
from pyarrow import ipc, parquet
from pyarrow import json as arrow_json

from query_api.readings.formats.exports import ReaderBounds
from query_api.serve.tuning import Tuning
from shared.settings import Settings
from tests import services

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)
COUNT = 300
X = [float(n) for n in range(COUNT)]
"""Whole at first sight, as are half of the times."""
Y = [n / 7 if n > 200 else 1.0 for n in range(COUNT)]
TIMES = [NOON + timedelta(seconds=n, milliseconds=n // 200 * 250) for n in range(COUNT)]


@pytest.fixture
async def link(api: httpx.AsyncClient, device: int) -> str:
    """The link to the readings of a device, without a suffix."""
    rows = zip(X, Y, TIMES, strict=True)
    given = [{"device_id": device, "x": x, "y": y, "z": 0, "timestamp": at.isoformat()} for x, y, at in rows]
    assert (await api.post("/stats", json=given)).status_code == 201
    return f"{str(api.base_url).rstrip('/')}/stats/{device}"


def opened(url: str) -> io.BytesIO:
    with urllib.request.urlopen(url, timeout=60) as answer:  # noqa: S310  # it is http
        return io.BytesIO(answer.read())


PANDAS: list[tuple[str, Callable[[str], pd.DataFrame]]] = [
    (".csv", lambda url: pd.read_csv(url, parse_dates=["timestamp"])),
    ("?format=csv", lambda url: pd.read_csv(url, parse_dates=["timestamp"])),
    (".ndjson", lambda url: pd.read_json(url, lines=True, dtype={"x": float, "z": float})),
    (".json", lambda url: pd.read_json(url, dtype={"x": float, "z": float})),
    (".parquet", pd.read_parquet),
]
POLARS: list[tuple[str, Callable[[str], pl.DataFrame]]] = [
    (".csv", lambda url: pl.read_csv(url, try_parse_dates=True)),
    (".csv", lambda url: pl.scan_csv(url, try_parse_dates=True).collect()),
    (".ndjson", pl.read_ndjson),
    (".ndjson", lambda url: pl.scan_ndjson(url).collect()),
    (".parquet", pl.read_parquet),
    (".parquet", lambda url: pl.scan_parquet(url).filter(pl.col("x") >= 0).collect()),
    (".arrow", pl.read_ipc_stream),
    (".json", lambda url: pl.read_json(opened(url))),
]
PYARROW: list[tuple[str, Callable[[str], pa.Table]]] = [
    (".csv", lambda url: arrow_csv.read_csv(opened(url))),
    (".ndjson", lambda url: arrow_json.read_json(opened(url))),
    (".arrow", lambda url: ipc.open_stream(opened(url)).read_all()),
    (".parquet", lambda url: parquet.read_table(opened(url))),
]


@pytest.mark.parametrize(("suffix", "read"), PANDAS)
async def test_pandas(link: str, suffix: str, read: Callable[[str], pd.DataFrame]) -> None:
    frame = await asyncio.to_thread(read, link + suffix)
    assert [str(kind) for kind in frame.dtypes[["x", "y", "z"]]] == ["float64"] * 3
    assert str(frame.dtypes["timestamp"]).startswith("datetime64[")
    assert [frame["x"].tolist(), frame["y"].tolist()] == [X, Y]
    assert [at.to_pydatetime() for at in frame["timestamp"]] == TIMES


@pytest.mark.parametrize(("suffix", "read"), POLARS)
async def test_polars(link: str, suffix: str, read: Callable[[str], pl.DataFrame]) -> None:
    frame = await asyncio.to_thread(read, link + suffix)
    assert [frame[axis].dtype for axis in "xyz"] == [pl.Float64] * 3
    assert [frame["x"].to_list(), frame["y"].to_list()] == [X, Y]
    times = frame["timestamp"]
    read_times = times.str.to_datetime(time_zone="UTC") if times.dtype == pl.String else times
    assert [at.replace(tzinfo=UTC) for at in read_times.to_list()] == TIMES


@pytest.mark.parametrize(("suffix", "read"), PYARROW)
async def test_pyarrow(link: str, suffix: str, read: Callable[[str], pa.Table]) -> None:
    table = await asyncio.to_thread(read, link + suffix)
    assert [table.schema.field(axis).type for axis in "xyz"] == [pa.float64()] * 3
    assert [table["x"].to_pylist(), table["y"].to_pylist()] == [X, Y]
    times = table["timestamp"].to_pylist()  # its reader of JSON knows no time with an offset
    assert [datetime.fromisoformat(at) if suffix == ".ndjson" else at for at in times] == TIMES


# What they are told.


async def test_a_link_has_its_format_and_a_file_name(api: httpx.AsyncClient, link: str) -> None:
    number = link.rpartition("/")[2]
    for suffix, media_type, name in (
        ("csv", "text/csv; charset=utf-8", "csv"), ("ndjson", "application/x-ndjson", "ndjson"),
        ("arrow", "application/vnd.apache.arrow.stream", "arrows"),
        ("parquet", "application/vnd.apache.parquet", "parquet"),
    ):  # fmt: skip
        for address in (f"{link}.{suffix}", f"{link}?format={suffix}", f"{link}.{suffix}/"):
            answer = await api.get(address, headers={"Accept": "text/html,*/*;q=0.8"})
            assert (answer.status_code, answer.headers["content-type"]) == (200, media_type)
            assert answer.headers["content-disposition"] == f'attachment; filename="device-{number}.{name}"'
    shown = await api.get(f"{link}.json?limit=2", headers={"Accept": "text/csv"})
    assert shown.headers["content-disposition"] == f'inline; filename="device-{number}.json"'
    assert len((await api.get(shown.links["next"]["url"])).json()) == 2
    assert "content-disposition" not in (await api.get(link)).headers


async def test_unsupported_links_are_refused(api: httpx.AsyncClient, link: str) -> None:
    for address, field in (
        (f"{link}?format=xlsx", "format"),
        (f"{link}.csv?format=csv", "format"),
        (f"{link}.xlsx", "device_id"),
    ):
        answer = await api.get(address)
        assert (answer.status_code, [fault["field"] for fault in answer.json()["errors"]]) == (422, [field])
    cursor = (await api.get(f"{link}?limit=1")).headers["x-next-cursor"]
    assert "a stream has no pages" in (await api.get(f"{link}.csv?cursor={cursor}")).json()["detail"]
    assert len((await api.get(f"{link}.csv?limit=7")).text.splitlines()) == 8


async def test_vary_names_every_header_that_a_response_depends_on(api_settings: Settings) -> None:
    settings = msgspec.structs.replace(api_settings, cors_origins="https://plots.example.com")
    async with services.api(settings) as api:
        device = (await api.post("/devices", json={"name": "n"})).json()["id"]
        for origin in ({}, {"Origin": "https://plots.example.com"}, {"Origin": "https://others.example.com"}):
            listed = await api.get(f"/stats/{device}", headers=origin)
            assert listed.headers["vary"] == "Accept, Accept-Encoding, Origin"
            refused = await api.get(f"/stats/{device}", headers={**origin, "Accept": "image/png"})
            assert (refused.status_code, refused.headers["vary"]) == (406, "Accept, Accept-Encoding, Origin")
            assert (await api.get("/devices", headers=origin)).headers["vary"] == "Accept-Encoding, Origin"
        queued = await api.post(f"/stats/analysis/{device}/async", headers={"Origin": "https://plots.example.com"})
        assert queued.headers["vary"] == "Prefer, Origin"


async def test_ranges_of_a_stream(api: httpx.AsyncClient, link: str) -> None:
    whole = await api.get(f"{link}.csv")
    head = await api.head(f"{link}.csv")
    size = len(whole.content)
    assert (head.headers["content-length"], head.headers["accept-ranges"], head.content) == (str(size), "bytes", b"")
    for given, first, last in (
        ("0-9", 0, 9),
        ("10-", 10, size - 1),
        ("-5", size - 5, size - 1),
        (f"5-{size * 9}", 5, size - 1),
    ):
        part = await api.get(f"{link}.csv", headers={"Range": f"bytes={given}"})
        assert (part.status_code, part.headers["content-range"]) == (206, f"bytes {first}-{last}/{size}")
        assert part.content == whole.content[first : last + 1]
    for given in ("bytes=0-1,5-6", "bytes=9-3", "bytes=-", "lines=1-2", "nonsense"):
        every = await api.get(f"{link}.csv", headers={"Range": given})
        assert (every.status_code, every.content) == (200, whole.content)
    beyond = await api.get(f"{link}.csv", headers={"Range": f"bytes={size}-"})
    assert (beyond.status_code, beyond.headers["content-range"]) == (416, f"bytes */{size}")
    for given in ("bytes=0-9", f"bytes={size}-"):  # HEAD knows no Range (RFC 9110 section 14.2)
        asked = await api.head(f"{link}.csv", headers={"Range": given})
        assert (asked.status_code, asked.headers["content-length"]) == (200, str(size))
    changed = await api.get(f"{link}.csv", headers={"Range": "bytes=0-9", "If-Range": '"another"'})
    assert (changed.status_code, changed.content) == (200, whole.content)


@pytest.mark.serve(Tuning(readers=ReaderBounds(max_range_bytes=1000)))
async def test_a_long_stream_has_no_ranges(api: httpx.AsyncClient, link: str) -> None:
    head = await api.head(f"{link}.csv")
    assert (head.status_code, head.headers["accept-ranges"]) == (200, "none")
    assert "content-length" not in head.headers
    refused = await api.get(f"{link}.csv", headers={"Range": "bytes=0-9"})
    assert (refused.status_code, refused.json()["type"]) == (416, "/problems/range-not-satisfiable")
    assert "request it without Range" in refused.json()["detail"]
    assert len((await api.get(f"{link}.csv")).text.splitlines()) == COUNT + 1
