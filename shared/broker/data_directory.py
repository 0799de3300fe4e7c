"""The broker's data directory on this host (BROKER_DATA_DIR): free space, and the time of Mosquitto's last save.

Mosquitto saves its queued messages to a new file next to the previous one, and then renames it. So a save needs at
least as much free space as the file that it replaces.
"""

import os
from pathlib import Path

import msgspec

from shared.errors import LocalError

SAVED = "mosquitto.db"
"""The sessions and their queued messages."""
CLIENTS = "dynamic-security.json"
"""The clients of dynamic security."""


class File(msgspec.Struct, frozen=True):
    """Size in bytes, and time of the last change in seconds since 1970."""

    size: int
    changed_at: float


class DataDirectory(msgspec.Struct, frozen=True):
    """Free bytes on the disk, and the broker's files; None for a missing file."""

    free: int
    saved: File | None
    clients: File | None


def look(directory: Path) -> DataDirectory:
    """Read the sizes and times of the files in the directory. Raises LocalError."""
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
