"""Metrics of a worker."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

OUTCOMES = {
    "done": "its result was written",
    "retried": "it failed and will be retried",
    "failed": "its last attempt failed",
    "cancelled": "it was cancelled",
    "superseded": "its lease expired and another worker took over",
    "abandoned": "the connection to the database was lost",
    "returned": "the worker stopped, or was busy, and queued it again",
}
CALLBACK_OUTCOMES = {
    "delivered": "the receiver returned a 2xx",
    "retried": "it failed and will be retried",
    "failed": "its last attempt failed",
    "gone": "its request was deleted",
    "abandoned": "the connection to the database was lost",
}


class WorkerMetrics:
    """The metrics at /metrics of the worker."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        explained = "; ".join(f"{name}: {meaning}" for name, meaning in OUTCOMES.items())
        self.ended = Counter(
            "devicestat_worker_analyses",
            f"Attempts at analyses by outcome ({explained})",
            ["outcome"],
            registry=self.registry,
        )
        for outcome in OUTCOMES:
            self.ended.labels(outcome)  # so that each is exported from the start, as 0
        self.seconds = Histogram(
            "devicestat_worker_analysis_seconds",
            "Duration of an attempt in seconds, from its start until its result is written",
            registry=self.registry,
        )
        explained = "; ".join(f"{name}: {meaning}" for name, meaning in CALLBACK_OUTCOMES.items())
        self.callbacks = Counter(
            "devicestat_worker_callbacks",
            f"Calls of webhooks by outcome ({explained})",
            ["outcome"],
            registry=self.registry,
        )
        for outcome in CALLBACK_OUTCOMES:
            self.callbacks.labels(outcome)
        self.callback_seconds = Histogram(
            "devicestat_worker_callback_seconds", "Duration of a call of a webhook in seconds", registry=self.registry
        )
        self.waiting = Gauge("devicestat_worker_queue_length", "Queued analyses", registry=self.registry)
        self._add_blocks()

    def _add_blocks(self) -> None:
        self.sealed = Counter(
            "devicestat_worker_sealed_readings", "Readings that blocks were built of", registry=self.registry
        )
        self.settled = Counter(
            "devicestat_worker_settled_readings", "Late readings that were moved into blocks", registry=self.registry
        )
        self.fence_wait_seconds = Counter(
            "devicestat_worker_fence_wait_seconds",
            "Seconds that sealing has waited for transactions that store readings",
            registry=self.registry,
        )
        self.scrubbed = Counter(
            "devicestat_worker_scrubbed_blocks",
            "Blocks that were checked against what they are built of, at random or because a read found damage",
            registry=self.registry,
        )
        self.scrub_mismatches = Counter(
            "devicestat_worker_scrub_mismatches",
            "What was wrong in them, and was built anew",
            registry=self.registry,
        )
        self.sealing_failures = Counter(
            "devicestat_worker_sealing_failures",
            "Failures to seal, to settle or to check the readings of a device; the log has the reasons",
            registry=self.registry,
        )
        self.late = Gauge("devicestat_worker_late_readings", "Late readings outside of blocks", registry=self.registry)
        self.sealing_lag = Gauge(
            "devicestat_worker_sealing_lag_seconds",
            "Seconds since the device that is due for the longest time should have been looked at for sealing",
            registry=self.registry,
        )
