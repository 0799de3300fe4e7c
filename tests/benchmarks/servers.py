"""Where it is measured: PostgreSQL and Mosquitto as `devicestat up` runs them, with their data on a disk."""

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
"""Whose files go here; unlike /tmp, /var/tmp outlives a restart and so is on a disk."""
_IN_MEMORY = ("tmpfs", "ramfs")


def file_system(path: Path) -> str:
    """What the path is on. Exits, and says what to do, if that is memory: nothing is durable there."""
    mounts = psutil.disk_partitions(all=True)
    mount = max((m for m in mounts if path.resolve().is_relative_to(m.mountpoint)), key=lambda m: len(m.mountpoint))
    if mount.fstype in _IN_MEMORY:
        raise SystemExit(f"{path} is in memory ({mount.fstype}): set TMPDIR to a directory on a disk")
    return mount.fstype


@contextmanager
def directory() -> Iterator[Path]:
    """A directory on the disk, for as long as the block lasts."""
    with tempfile.TemporaryDirectory(prefix="ds", dir=ON_DISK) as path:
        yield Path(path)


@contextmanager
def broker() -> Iterator[EmbeddedMosquitto]:
    """A broker that no session of an earlier measurement burdens."""
    with directory() as path, EmbeddedMosquitto(path, free_port()) as server:
        yield server


def settings(postgres: EmbeddedPostgres, mosquitto: EmbeddedMosquitto) -> Settings:
    """An ingestor's settings: the defaults, between these two."""
    return Settings(database_url=postgres.url, mqtt_url=mosquitto.url, ingestor_metrics_port=free_port())


_EMPTY = "TRUNCATE readings, ingest_journal, peer RESTART IDENTITY"


def clear(database: psycopg.Connection) -> None:
    """Empties the tables, and has written to disk what went before, so that nobody pays for another's rows."""
    database.execute(_EMPTY)
    database.execute("CHECKPOINT")
