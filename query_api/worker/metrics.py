"""What Prometheus sees of a worker."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

OUTCOMES = {
    "done": "its result is written",
    "retried": "it failed, and is put back for later",
    "failed": "it failed for the last time",
    "cancelled": "someone cancelled it",
    "superseded": "its lease ran out, and another worker took over",
    "abandoned": "the database went away",
    "returned": "the worker stopped, and put it back",
}


class WorkerMetrics:
    """All that the worker shows at /metrics."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        explained = "; ".join(f"{name}: {meaning}" for name, meaning in OUTCOMES.items())
        self.ended = Counter(
            "devicestat_worker_analyses",
            f"Attempts at analyses by how they ended ({explained})",
            ["outcome"],
            registry=self.registry,
        )
        for outcome in OUTCOMES:
            self.ended.labels(outcome)  # so that each is there from the start, as 0
        self.seconds = Histogram(
            "devicestat_worker_analysis_seconds",
            "From a claim to the end of the attempt",
            registry=self.registry,
        )
        self.waiting = Gauge("devicestat_worker_queue_length", "Analyses that wait", registry=self.registry)
