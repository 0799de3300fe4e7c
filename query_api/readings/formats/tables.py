"""Readings as Arrow and Parquet, encoded batch by batch.

pyarrow is in the extra devicestat[arrow], and is imported at the first request of a table.
"""

import asyncio
import io
from collections.abc import Callable
from typing import Any, LiteralString
from zoneinfo import ZoneInfo

import numpy as np

from query_api.readings.formats.format import StreamFormat
from shared.readings.binary_copy import BIGINT, FLOAT8, TIMESTAMPTZ, BinaryRows, Rows, microseconds

COLUMNS = {"id": BIGINT, "device_id": BIGINT, "x": FLOAT8, "y": FLOAT8, "z": FLOAT8, "timestamp": TIMESTAMPTZ}
ARROW_BATCH_ROWS = 16_384
PARQUET_BATCH_ROWS = 32_768
"""Rows of a row group."""


class _Sink(io.RawIOBase):
    """A file in memory, whose contents `drained` returns and removes."""

    def __init__(self) -> None:
        self._written = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._written += data
        return memoryview(data).nbytes

    def drained(self) -> bytes:
        written = bytes(self._written)
        self._written.clear()
        return written


class TableEncoder:
    """Encodes the blocks of a binary COPY as one table."""

    def __init__(self, open_writer: Callable[[_Sink, Any], Any], batch_rows: int, zone: ZoneInfo | None = None) -> None:
        """`open_writer`: returns pyarrow's writer. `batch_rows`: the rows of a record batch, or of a row group.

        `zone`: of the type of the times; None: UTC.
        """
        self._zone = "UTC" if zone is None else zone.key
        self._open_writer = open_writer
        self._batch_rows = batch_rows
        self._rows = BinaryRows(COLUMNS)
        self._waiting: list[Rows] = []
        self._sink = _Sink()
        self._writer: Any = None

    async def encode(self, block: bytes, more: bool) -> bytes:
        """Return the bytes that are ready after this block, possibly none, and after the last block the rest."""
        self._waiting.append(self._rows.cut(block))
        if more and sum(map(len, self._waiting)) < self._batch_rows:
            return b""
        return await asyncio.to_thread(self._write, more)

    def _write(self, more: bool) -> bytes:
        if self._writer is None:
            self._writer = self._open_writer(self._sink, _schema(self._zone))
        rows, self._waiting = np.concatenate(self._waiting), []
        if len(rows):
            self._writer.write_batch(_batch(rows, _schema(self._zone)))
        if not more:
            self._writer.close()
        return self._sink.drained()


def _arrow_writer(sink: _Sink, schema: Any) -> Any:
    from pyarrow import ipc

    return ipc.new_stream(sink, schema)


def _parquet_writer(sink: _Sink, schema: Any) -> Any:
    from pyarrow import parquet

    return parquet.ParquetWriter(sink, schema, compression="zstd", use_dictionary=["device_id"])


def _schema(zone: str) -> Any:
    import pyarrow as pa

    kinds = {BIGINT: pa.int64(), FLOAT8: pa.float64()}
    kind_of = {name: kinds[kind] for name, kind in COLUMNS.items()} | {"timestamp": pa.timestamp("us", tz=zone)}
    return pa.schema([pa.field(name, kind, nullable=False) for name, kind in kind_of.items()])


def _batch(rows: Rows, schema: Any) -> Any:
    import pyarrow as pa

    native = {name: rows[name].astype(kind.replace(">", "<")) for name, kind in COLUMNS.items()}
    native["timestamp"] = microseconds(rows["timestamp"])
    arrays = [pa.array(native[field.name]).view(field.type) for field in schema]
    return pa.record_batch(arrays, schema=schema)


_COLUMNS: LiteralString = "id, device_id, x, y, z, recorded_at"
_BINARY: LiteralString = " (FORMAT binary)"
ARROW = StreamFormat(
    name="arrow",
    media_type="application/vnd.apache.arrow.stream",
    file_suffix="arrows",  # the suffix of Arrow's IPC stream; .arrow is that of its file
    needs="pyarrow",
    description="Apache Arrow's IPC stream. It requires the extra devicestat[arrow].",
    is_text=False,
    columns=_COLUMNS,
    zoned_columns=_COLUMNS,
    options=_BINARY,
    encoder=lambda zone: TableEncoder(_arrow_writer, ARROW_BATCH_ROWS, zone).encode,
)
PARQUET = StreamFormat(
    name="parquet",
    media_type="application/vnd.apache.parquet",
    file_suffix="parquet",
    needs="pyarrow",
    description="Apache Parquet. It requires the extra devicestat[arrow].",
    is_text=False,
    columns=_COLUMNS,
    zoned_columns=_COLUMNS,
    options=_BINARY,
    encoder=lambda zone: TableEncoder(_parquet_writer, PARQUET_BATCH_ROWS, zone).encode,
)
