"""The figures of an API process that it reports to process_status, from its metrics."""

from collections import Counter
from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry
from prometheus_client.samples import Sample

from shared.serving.telemetry import Health
from shared.status.figures import ApiFigures, Document, shortened
from shared.status.samples import buckets, read
from shared.status.window import Window

_REQUESTS = "devicestat_http_requests_total"
_SECONDS = "devicestat_http_request_seconds_bucket"
_RUNNING, _WAITING = "devicestat_http_slow_running", "devicestat_http_slow_waiting"
_READINGS_WAITING = "devicestat_http_readings_waiting"
_ENDLESS = "/live"
"""End of the routes of live streams, which last as long as their client likes."""


class Status:
    """Makes the document of an API process. `live_streams`: the number of open ones."""

    def __init__(self, health: Health, registry: CollectorRegistry, live_streams: Callable[[], int]) -> None:
        self._health = health
        self._registry = registry
        self._live_streams = live_streams
        self._window = Window()

    def document(self) -> Document:
        """Return the health, and the figures of the last minute. It is called at each report."""
        self._window.add(self._counts())
        return Document(parts=shortened(self._health.parts()), api=self._figures())

    def _counts(self) -> dict[str, float]:
        requests = read(self._registry, _REQUESTS)
        counted = [sample for sample in requests if sample.name == _REQUESTS]
        durations = (s for s in read(self._registry, _SECONDS) if not s.labels.get("route", "").endswith(_ENDLESS))
        return {
            "requests": sum(sample.value for sample in counted),
            **_by_class(counted),
            **{f"seconds {bound}": number for bound, number in buckets(durations).items()},
        }

    def _figures(self) -> ApiFigures:
        window = self._window
        return ApiFigures(
            requests_per_s=window.rate("requests"),
            refused=round(window.increase("status 4")),
            errors=round(window.increase("status 5")),
            request_p50_s=window.quantile("seconds ", 0.5),
            request_p99_s=window.quantile("seconds ", 0.99),
            live_streams=self._live_streams(),
            slow_running=self._sum(_RUNNING),
            slow_waiting=self._sum(_WAITING),
            readings_waiting=self._sum(_READINGS_WAITING),
        )

    def _sum(self, name: str) -> int:
        return round(sum(sample.value for sample in read(self._registry, name)))


def _by_class(requests: Iterable[Sample]) -> Counter[str]:
    """Return the numbers of requests by the first digit of their status, as "status 4"."""
    counts: Counter[str] = Counter()
    for sample in requests:
        counts[f"status {sample.labels['status'][:1]}"] += int(sample.value)
    return counts
