"""Seconds from the start of `devicestat serve` to its first answer that needs the database."""

import time
from collections.abc import Iterator

from deploy.local.postgres import EmbeddedPostgres
from tests.benchmarks.http import serving
from tests.benchmarks.pairs import PAIRS, Ratio, target
from tests.command import argv
from tests.ports import free_port

TARGET_S = 2.0


def measure(postgres: EmbeddedPostgres) -> Iterator[Ratio]:
    """Measure the seconds, against a target."""
    _first_answer_s(postgres)  # the first start compiles Python files
    ours = [_first_answer_s(postgres) for _ in range(PAIRS)]
    yield Ratio("API start to first answer", "the target", "s", ours, target(TARGET_S), "<= 1")


def _first_answer_s(postgres: EmbeddedPostgres) -> float:
    port, began = free_port(), time.perf_counter()
    with serving(port, argv("serve"), "/devices", database_url=postgres.url, http_port=port, log_level="warning"):
        return time.perf_counter() - began
