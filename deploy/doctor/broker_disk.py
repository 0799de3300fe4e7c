"""Checks of the broker's saves on disk, if BROKER_DATA_DIR names its data directory."""

import time
from datetime import timedelta
from pathlib import Path

from shared.broker.data_directory import SAVED, DataDirectory, look
from shared.errors import LocalError
from shared.settings import Settings
from shared.status.findings import Finding, Severity
from shared.status.words import ago

SAVED_WITHIN_S = 60.0
"""Mosquitto saves every ten seconds with mosquitto.conf. A save of ten million messages takes longer."""
SMALL_BYTES = 256 * 1024 * 1024
_ROOM = 4
"""Free space that is enough, in multiples of the last save, because the queue may grow."""


def examine_broker_disk(settings: Settings) -> list[Finding]:
    """Check the free space for a save, and the age of the last save; return nothing without BROKER_DATA_DIR."""
    if settings.broker_data_dir is None:
        return []
    directory = Path(settings.broker_data_dir)
    try:
        found = look(directory)
    except LocalError as error:
        return [Finding(Severity.WRONG, "broker disk", str(error))]
    return [_space(found, directory), *_last_save(found, directory)]


def _space(found: DataDirectory, directory: Path) -> Finding:
    size = 0 if found.saved is None else found.saved.size
    text = f"{found.free:,} bytes are free in {directory}"
    if found.free < max(size, 1):
        return Finding(Severity.WRONG, "broker disk", f"{text}, and {_needed(size)}: free space")
    if found.free < max(_ROOM * size, SMALL_BYTES):
        return Finding(Severity.WARNING, "broker disk", f"{text}, and {_needed(size)}: free space before it is full")
    return Finding(Severity.OK, "broker disk", text)


def _needed(size: int) -> str:
    return f"a save needs {size:,} bytes next to the last one. Mosquitto loses unsaved messages when it stops"


def _last_save(found: DataDirectory, directory: Path) -> list[Finding]:
    if found.saved is None:
        return []
    age_s = time.time() - found.saved.changed_at
    when = f"{directory / SAVED} was saved {ago(timedelta(seconds=age_s))}"
    if age_s <= SAVED_WITHIN_S:
        return [Finding(Severity.OK, "broker saved", when)]
    text = (
        f"{when}, but mosquitto.conf saves it every 10 seconds: messages that were acknowledged since and still wait "
        "are lost when Mosquitto stops, even cleanly. Mosquitto's log says why it cannot save: is the disk full? "
        "Otherwise set autosave_interval 10, as in mosquitto.conf"
    )
    return [Finding(Severity.WRONG, "broker saved", text)]
