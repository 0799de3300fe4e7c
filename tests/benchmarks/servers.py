"""Servers of the benchmarks: PostgreSQL and Mosquitto as in `devicestat up`, with their data on a disk."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import psycopg

from deploy.local.mosquitto import EmbeddedMosquitto
from deploy.local.postgres import EmbeddedPostgres
from shared.settings import Settings
from tests.ports import free_port

ON_DISK = Path(os.environ.get("TMPDIR", "/var/tmp"))
"""Directory of their files. Unlike /tmp, /var/tmp survives a restart, so it is on a disk."""
_IN_MEMORY = ("tmpfs", "ramfs")


def file_system(path: Path) -> str:
    """Return the file system of the path. Exits with advice if it is in memory, where nothing is durable."""
    mounts = psutil.disk_partitions(all=True)
    mount = max((m for m in mounts if path.resolve().is_relative_to(m.mountpoint)), key=lambda m: len(m.mountpoint))
    if mount.fstype in _IN_MEMORY:
        raise SystemExit(f"{path} is in memory ({mount.fstype}): set TMPDIR to a directory on a disk")
    return mount.fstype


@contextmanager
def directory() -> Iterator[Path]:
    """Create a directory on the disk for the block."""
    with tempfile.TemporaryDirectory(prefix="ds", dir=ON_DISK) as path:
        yield Path(path)


@contextmanager
def broker() -> Iterator[EmbeddedMosquitto]:
    """Run a broker without sessions of earlier measurements."""
    with directory() as path, EmbeddedMosquitto(path, free_port()) as server:
        yield server


def settings(postgres: EmbeddedPostgres, mosquitto: EmbeddedMosquitto) -> Settings:
    """Return default settings of an ingestor for these servers."""
    return Settings(database_url=postgres.url, mqtt_url=mosquitto.url, ingestor_metrics_port=free_port())


_EMPTY = "TRUNCATE readings, ingest_journal, peer RESTART IDENTITY"


def clear(database: psycopg.Connection) -> None:
    """Truncate the tables, and write a checkpoint, so that earlier rows do not affect the next measurement."""
    database.execute(_EMPTY)
    database.execute("CHECKPOINT")
