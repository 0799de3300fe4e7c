"""Metrics of the broker's data directory, if BROKER_DATA_DIR is set."""

from collections.abc import Iterable
from pathlib import Path

import structlog
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from shared.broker.data_directory import look
from shared.errors import LocalError

_log = structlog.get_logger()


class BrokerDisk(Collector):
    """Free space and the last save, read at each scrape; no metrics while the directory is unreadable."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def free_bytes(self) -> int | None:
        """Return the free space, or None while the directory is unreadable."""
        try:
            return look(self._directory).free
        except LocalError:
            return None

    def collect(self) -> Iterable[Metric]:
        try:
            found = look(self._directory)
        except LocalError as error:
            _log.warning("the metrics of the broker's disk are unavailable", error=str(error))
            return
        yield GaugeMetricFamily("devicestat_broker_disk_free_bytes", "Free space for the broker's saves", found.free)
        if found.saved is None:
            return
        yield GaugeMetricFamily("devicestat_broker_saved_bytes", "Size of the broker's last save", found.saved.size)
        yield GaugeMetricFamily(
            "devicestat_broker_last_save_timestamp_seconds", "Time of the broker's last save", found.saved.changed_at
        )
