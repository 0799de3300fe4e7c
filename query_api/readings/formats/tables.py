"""Readings as Arrow and Parquet, written while they are read: a batch of rows is all that is held.

pyarrow comes with the extra devicestat[arrow], and is imported when the first table is asked for.
"""

import asyncio
import io
from typing import Any

import numpy as np

from query_api.readings.formats.copying import BIGINT, FLOAT8, TIMESTAMPTZ, BinaryRows, Rows, microseconds
from query_api.readings.formats.negotiation import ARROW, PARQUET

COLUMNS = {"id": BIGINT, "device_id": BIGINT, "x": FLOAT8, "y": FLOAT8, "z": FLOAT8, "timestamp": TIMESTAMPTZ}
BATCH_ROWS = {ARROW: 16_384, PARQUET: 32_768}
"""Rows of a record batch, and of a row group."""


class TableEncoder:
    """Makes a stream's blocks of binary COPY into one table of the media type."""

    def __init__(self, media_type: str) -> None:
        self._media_type = media_type
        self._rows = BinaryRows(COLUMNS)
        self._waiting: list[Rows] = []
        self._sink = _Sink()
        self._writer: Any = None

    async def encode(self, block: bytes, more: bool) -> bytes:
        """What is ready to be sent after this block, maybe nothing yet; with the last one, all the rest."""
        self._waiting.append(self._rows.cut(block))
        if more and sum(map(len, self._waiting)) < BATCH_ROWS[self._media_type]:
            return b""
        return await asyncio.to_thread(self._write, more)

    def _write(self, more: bool) -> bytes:
        if self._writer is None:
            self._writer = _open(self._media_type, self._sink)
        rows, self._waiting = np.concatenate(self._waiting), []
        if len(rows):
            self._writer.write_batch(_batch(rows))
        if not more:
            self._writer.close()
        return self._sink.drained()


class _Sink(io.RawIOBase):
    """A file that holds what was written since it was last drained."""

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


def _open(media_type: str, sink: _Sink) -> Any:
    """pyarrow's writer of the media type."""
    if media_type == ARROW:
        from pyarrow import ipc

        return ipc.new_stream(sink, _schema())
    from pyarrow import parquet

    return parquet.ParquetWriter(sink, _schema(), compression="zstd", use_dictionary=["device_id"])


def _schema() -> Any:
    import pyarrow as pa

    kinds = {BIGINT: pa.int64(), FLOAT8: pa.float64()}
    kind_of = {name: kinds[kind] for name, kind in COLUMNS.items()} | {"timestamp": pa.timestamp("us", tz="UTC")}
    return pa.schema([pa.field(name, kind, nullable=False) for name, kind in kind_of.items()])


def _batch(rows: Rows) -> Any:
    import pyarrow as pa

    schema = _schema()
    native = {name: rows[name].astype(kind.replace(">", "<")) for name, kind in COLUMNS.items()}
    native["timestamp"] = microseconds(rows["timestamp"])
    arrays = [pa.array(native[field.name]).view(field.type) for field in schema]
    return pa.record_batch(arrays, schema=schema)
