"""Reading of the metrics of this process.

The figures of a report are those of /metrics, and are not counted a second time.
"""

from collections import Counter as Counts
from collections.abc import Iterable, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.samples import Sample

INFINITE = float("inf")


def read(registry: CollectorRegistry, *names: str) -> list[Sample]:
    """Return the samples of these names, such as devicestat_http_requests_total."""
    families = registry.restricted_registry(names).collect()
    return [sample for family in families for sample in family.samples]


def samples_of(metric: Counter | Gauge | Histogram) -> list[Sample]:
    """Return all samples of a metric."""
    return [sample for family in metric.collect() for sample in family.samples]


def by_label(samples: Iterable[Sample], suffix: str, label: str) -> Mapping[str, float]:
    """Return the sums by the value of a label, of the samples of which the name ends so."""
    sums: Counts[str] = Counts()
    for sample in samples:
        if sample.name.endswith(suffix):
            sums[sample.labels[label]] += sample.value  # type: ignore[assignment]  # the values are floats
    return sums


def value(metric: Counter | Gauge) -> float:
    """Return the value of a metric without labels."""
    return next(sample.value for sample in samples_of(metric) if not sample.name.endswith("_created"))


def buckets(samples: Iterable[Sample]) -> Mapping[float, float]:
    """Return the cumulative counts of a histogram by the upper bound of the bucket, summed over its labels."""
    counts: dict[float, float] = {}
    for sample in samples:
        if sample.name.endswith("_bucket"):
            bound = float(sample.labels["le"])
            counts[bound] = counts.get(bound, 0.0) + sample.value
    return counts


def quantile(counts: Mapping[float, float], share: float) -> float | None:
    """Estimate a quantile from the cumulative counts of a histogram, as Prometheus' histogram_quantile does.

    Within a bucket it interpolates. Above the largest finite bound it returns that bound. None without observations.
    """
    bounds = sorted(counts)
    if not bounds or counts[bounds[-1]] <= 0:
        return None
    rank, below, lower = share * counts[bounds[-1]], 0.0, 0.0
    for bound in bounds:
        if counts[bound] >= rank:
            if bound == INFINITE:
                return lower
            return lower + (bound - lower) * (rank - below) / max(counts[bound] - below, 1e-9)
        below, lower = counts[bound], bound
    raise AssertionError("the last bucket has all observations")
