"""The figures of an ingestor that it reports to process_status, from its metrics."""

import time
from collections.abc import Callable

from ingestor.delivery.journal import Journal
from ingestor.metrics import IngestMetrics
from shared.serving.telemetry import Health
from shared.status.figures import BrokerReport, Document, IngestorFigures, shortened
from shared.status.samples import buckets, samples_of
from shared.status.window import Window


class Status:
    """Makes the document of an ingestor.

    `is_paused`: whether it reads nothing from the broker. `disk_free`: free bytes for the broker's saves, if known.
    `broker`: returns the figures of the broker.
    """

    def __init__(
        self,
        health: Health,
        metrics: IngestMetrics,
        journal: Journal,
        is_paused: Callable[[], bool],
        disk_free: Callable[[], int | None],
        broker: Callable[[], BrokerReport],
    ) -> None:
        self._health = health
        self._metrics = metrics
        self._journal = journal
        self._is_paused = is_paused
        self._disk_free = disk_free
        self._broker = broker
        self._window = Window()

    def document(self) -> Document:
        """Return the health, and the figures of the last minute. It is called at each report."""
        self._window.add(self._counts())
        return Document(parts=shortened(self._health.parts()), ingestor=self._figures())

    def _counts(self) -> dict[str, float]:
        counts = self._metrics.counts
        delays = buckets(samples_of(self._metrics.delay_seconds))
        return {
            "messages": counts.delivered,
            "readings": counts.received,
            "stored": counts.stored,
            "duplicates": counts.duplicate,
            "redelivered": counts.redelivered,
            **{f"refused {reason}": number for reason, number in counts.rejected.items()},
            **{f"delay {bound}": number for bound, number in delays.items()},
        }

    def _figures(self) -> IngestorFigures:
        counts, window = self._metrics.counts, self._window
        return IngestorFigures(
            messages_per_s=window.rate("messages"),
            readings_per_s=window.rate("readings"),
            stored_per_s=window.rate("stored"),
            duplicates=round(window.increase("duplicates")),
            redelivered=round(window.increase("redelivered")),
            refused=window.increases("refused "),
            delay_p50_s=window.quantile("delay ", 0.5),
            delay_p99_s=window.quantile("delay ", 0.99),
            lag_s=counts.lag_s,
            in_flight=counts.in_flight,
            is_paused=self._is_paused(),
            last_commit_s=max(0.0, time.time() - counts.committed_at) if counts.committed_at else None,
            journal_packets=self._journal.packets,
            journal_no=self._journal.next_no - 1,
            broker_disk_free_bytes=self._disk_free(),
            broker=self._broker(),
        )
