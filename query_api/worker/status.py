"""The figures of a worker that it reports to process_status, from its metrics."""

from collections.abc import Callable, Sequence

from query_api.worker.metrics import WorkerMetrics
from shared.serving.telemetry import Health
from shared.status.figures import Document, Round, WorkerFigures, shortened
from shared.status.samples import by_label, samples_of, value
from shared.status.window import Window


class Status:
    """Makes the document of a worker. `running`: the number of analyses that it has claimed."""

    def __init__(
        self,
        health: Health,
        metrics: WorkerMetrics,
        concurrency: int,
        running: Callable[[], int],
        rounds: Callable[[], Sequence[Round]],
    ) -> None:
        self._health = health
        self._metrics = metrics
        self._concurrency = concurrency
        self._running = running
        self._rounds = rounds
        self._window = Window()

    def document(self) -> Document:
        """Return the health, and the figures of the last minute. It is called at each report."""
        self._window.add(self._counts())
        return Document(parts=shortened(self._health.parts()), worker=self._figures())

    def _counts(self) -> dict[str, float]:
        analyses = by_label(samples_of(self._metrics.ended), "_total", "outcome")
        callbacks = by_label(samples_of(self._metrics.callbacks), "_total", "outcome")
        return {
            "sealed": value(self._metrics.sealed),
            **{f"analyses {outcome}": number for outcome, number in analyses.items()},
            **{f"callbacks {outcome}": number for outcome, number in callbacks.items()},
        }

    def _figures(self) -> WorkerFigures:
        metrics, window = self._metrics, self._window
        return WorkerFigures(
            concurrency=self._concurrency,
            running=self._running(),
            analyses=window.increases("analyses "),
            callbacks=window.increases("callbacks "),
            sealed_per_s=window.rate("sealed"),
            sealing_lag_s=value(metrics.sealing_lag),
            failures=round(value(metrics.sealing_failures)),
            mismatches=round(value(metrics.scrub_mismatches)),
            rounds=self._rounds(),
        )
