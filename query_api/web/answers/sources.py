"""The header that says where the readings of an analysis came from, and their number in the metrics."""

from collections.abc import Mapping

from litestar.datastructures import ResponseHeader
from litestar.di import NamedDependency
from litestar.params import SkipValidation
from prometheus_client import CollectorRegistry, Counter

from query_api.statistics.source import Source

NAME = "X-Analysis-Source"
HEADER = ResponseHeader(
    NAME,
    value="",
    description="How many readings came from sealed blocks, and how many from rows, which takes longer: such as "
    "`blocks=9000000, rows=1200`.",
    documentation_only=True,
)


class AnalysedReadings:
    """The metric of analysed readings."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._readings = Counter(
            "devicestat_api_analysed_readings",
            "Readings of immediate analyses, buckets and histograms, by the source: sealed blocks, or rows.",
            ["source"],
            registry=registry,
        )
        for source in ("blocks", "rows"):
            self._readings.labels(source)  # so that each is exported from the start, as 0

    def counted(self, source: Source) -> Mapping[str, str]:
        """Count the readings of a response, and return its header."""
        self._readings.labels("blocks").inc(source.blocks)
        self._readings.labels("rows").inc(source.rows)
        return {NAME: f"blocks={source.blocks}, rows={source.rows}"}


Analysed = NamedDependency[SkipValidation[AnalysedReadings]]
"""Parameter of handlers that analyse: `analysed`."""
