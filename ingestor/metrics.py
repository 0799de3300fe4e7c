"""The ingestor's metrics. The counts are consistent at every scrape.

Counts are plain integers, changed and read on the event loop: a scrape never sees half of a change, and a message costs
no lock.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from shared.readings.model import Reason


class Counts:
    """Readings by their fate, since the process started."""

    def __init__(self) -> None:
        self.delivered = 0  # messages, not readings
        self.received = 0
        self.stored = 0
        self.duplicate = 0
        self.rejected: Counter[Reason] = Counter()
        self.in_flight = 0
        self.redelivered = 0  # messages, not readings
        self.ambiguous = 0  # messages
        self.empty = 0  # messages
        self.oldest_at: float | None = None  # monotonic: when the oldest message not yet committed was received
        self.committed_at = 0.0  # of the last batch, in seconds since 1970

    @property
    def messages(self) -> int:
        """Number that grows with each message, by the count of its readings."""
        return self.received + self.redelivered + self.empty

    @property
    def lag_s(self) -> float:
        """Age of the oldest message not yet committed, in seconds."""
        return 0.0 if self.oldest_at is None else time.monotonic() - self.oldest_at


class _CountsCollector(Collector):
    def __init__(self, counts: Counts) -> None:
        self._counts = counts

    def collect(self) -> Iterable[Metric]:
        counts = self._counts
        readings = "devicestat_ingest_readings_"
        yield CounterMetricFamily(f"{readings}received", "Readings taken from the broker", counts.received)
        yield CounterMetricFamily(f"{readings}stored", "Readings stored as rows", counts.stored)
        yield CounterMetricFamily(f"{readings}duplicate", "Readings that were stored already", counts.duplicate)
        rejected = CounterMetricFamily(f"{readings}rejected", "Readings that were refused", labels=["reason"])
        for reason in Reason:
            rejected.add_metric([reason.value], counts.rejected[reason])
        yield rejected
        yield GaugeMetricFamily(f"{readings}in_flight", "Readings not yet committed", counts.in_flight)
        yield CounterMetricFamily(
            "devicestat_ingest_messages_received", "Messages taken from the broker", counts.delivered
        )
        yield CounterMetricFamily(
            "devicestat_ingest_messages_redelivered", "Messages received with DUP set", counts.redelivered
        )
        yield CounterMetricFamily(
            "devicestat_ingest_messages_ambiguous",
            "Redelivered messages that may be stored already and were stored again",
            counts.ambiguous,
        )
        yield CounterMetricFamily("devicestat_ingest_messages_empty", "Messages with an empty payload", counts.empty)
        yield GaugeMetricFamily(
            "devicestat_ingest_lag_seconds", "Age of the oldest message not yet committed", counts.lag_s
        )
        yield GaugeMetricFamily(
            "devicestat_ingest_last_commit_timestamp_seconds", "Time of the last committed batch", counts.committed_at
        )


class IngestMetrics:
    """The metrics at the ingestor's /metrics."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.counts = Counts()
        self.registry.register(_CountsCollector(self.counts))
        self.batch_readings = Histogram(
            "devicestat_ingest_batch_readings",
            "Readings in a batch",
            buckets=(1, 10, 100, 500, 1000, 2500, 5000, 10_000, 25_000),
            registry=self.registry,
        )
        self.commit_seconds = Histogram(
            "devicestat_ingest_commit_seconds",
            "Time to store a batch, from its first statement to its COMMIT, over all attempts",
            buckets=(0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5, 30),
            registry=self.registry,
        )
        self.delay_seconds = Histogram(
            "devicestat_ingest_delay_seconds",
            "Time from the receipt of a batch's first message to its COMMIT",
            buckets=(0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1, 5, 30),
            registry=self.registry,
        )

    def show_probe(self, is_forbidden: Callable[[], bool]) -> None:
        """Add the metric of whether the broker refuses the probe of the subscription (ADR 35)."""
        gauge = Gauge(
            "devicestat_ingest_probe_refused",
            "1 if the broker refuses the probe of the ingestor's subscription",
            registry=self.registry,
        )
        gauge.set_function(is_forbidden)
