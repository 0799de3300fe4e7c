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
CALLBACK_OUTCOMES = {
    "delivered": "it was answered with a 2xx",
    "retried": "it failed, and is put off",
    "failed": "it failed for the last time",
    "gone": "its request was deleted meanwhile",
    "abandoned": "the database went away",
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
        explained = "; ".join(f"{name}: {meaning}" for name, meaning in CALLBACK_OUTCOMES.items())
        self.callbacks = Counter(
            "devicestat_worker_callbacks",
            f"Calls of webhooks by how they ended ({explained})",
            ["outcome"],
            registry=self.registry,
        )
        for outcome in CALLBACK_OUTCOMES:
            self.callbacks.labels(outcome)
        self.callback_seconds = Histogram(
            "devicestat_worker_callback_seconds", "What a call of a webhook takes", registry=self.registry
        )
        self.waiting = Gauge("devicestat_worker_queue_length", "Analyses that wait", registry=self.registry)
