"""The broker's data directory, where this host sees it (BROKER_DATA_DIR): its disk, and when Mosquitto last saved.

Mosquitto writes all that waits to a new file, beside the one of the last save, and then renames it. So a save takes
as much free space as the file that it replaces, and more if more waits.
"""

import os
from pathlib import Path

import msgspec

from shared.errors import LocalError

SAVED = "mosquitto.db"
"""The sessions, and the messages that wait in them."""
CLIENTS = "dynamic-security.json"
"""The clients that dynamic security knows."""


class File(msgspec.Struct, frozen=True):
    """Size in bytes, and time of the last change in seconds since 1970."""

    size: int
    changed_at: float


class DataDirectory(msgspec.Struct, frozen=True):
    """Free bytes on the disk, and the broker's files; None for one that is not there."""

    free: int
    saved: File | None
    clients: File | None


def look(directory: Path) -> DataDirectory:
    """Look at the directory; only sizes and times of the files are read. Raises LocalError."""
    try:
        disk = os.statvfs(directory)
        return DataDirectory(
            free=disk.f_bavail * disk.f_frsize,
            saved=_file(directory / SAVED),
            clients=_file(directory / CLIENTS),
        )
    except OSError as error:
        raise LocalError(
            f"DEVICESTAT_BROKER_DATA_DIR is {str(directory)!r}, which cannot be read ({error.strerror}): set it to the "
            "persistence_location of Mosquitto on this host, or unset it"
        ) from error


def _file(path: Path) -> File | None:
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return File(found.st_size, found.st_mtime)
