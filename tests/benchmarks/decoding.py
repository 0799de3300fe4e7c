"""Decoding of an array to COPY data, without broker and database: by columns, and element by element (ADR 36)."""

import sys
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from unittest import mock

import msgspec

from deploy.local.postgres import EmbeddedPostgres
from ingestor.batch import Batch
from ingestor.payload import decode
from ingestor.payload.refusals import Message
from shared.readings.model import DAY, SECOND, Microseconds, to_microseconds
from shared.readings.store import pack
from shared.settings import parse_topic_filter
from tests.benchmarks.pairs import Ratio, warmed

SIZES = (48, 100, 1_000, 10_000)
READINGS = 50_000
"""Readings in one measurement."""
BATCH = 5_000
TENTH = timedelta(milliseconds=100)
_STARTED = datetime(2026, 6, 15, 12, tzinfo=UTC)
_NOW, _YEAR = to_microseconds(_STARTED) + DAY, 366 * DAY
_FILTER = parse_topic_filter("devices/+/stats")
_TIMESTAMPS = {
    "without timestamps": lambda _: None,
    "of microseconds": lambda n: _STARTED + timedelta(microseconds=n + 1),
    "of tenths of a second": lambda n: _STARTED + TENTH * n,
    "of seconds, as numbers": lambda n: _STARTED.timestamp() + n / SECOND,
}


def measure(_: EmbeddedPostgres) -> Iterator[Ratio]:
    """Measure the CPU time for each reading."""
    for name, timestamp in _TIMESTAMPS.items():
        for size in SIZES:
            array = [{"x": n / 1000, "y": n % 1000, "z": -3.25, "timestamp": timestamp(n)} for n in range(size)]
            payloads = [msgspec.json.encode(array)] * (READINGS // size)
            ours, peer = warmed(partial(_cpu_us, payloads), partial(_one_by_one, payloads))
            yield Ratio(
                f"an array of {size:,} {name}, to COPY data", "element by element", "µs a reading", ours, peer, "<= 1"
            )


def _one_by_one(payloads: Sequence[bytes]) -> float:
    with mock.patch.object(decode, "FEWEST", sys.maxsize):
        return _cpu_us(payloads)


def _cpu_us(payloads: Sequence[bytes]) -> float:
    began, batch = time.process_time(), Batch()
    for payload in payloads:
        _add(batch, payload, _NOW)
        if batch.rows >= BATCH:
            pack(batch.readings)
            batch = Batch()
    return (time.process_time() - began) / READINGS * SECOND


def _add(batch: Batch, payload: bytes, now: Microseconds) -> None:
    results = decode.decode(payload, None, now, _YEAR)
    batch.add(Message("devices/7/stats", None, payload, now, len(results)), results, 7, _FILTER)
