"""Whether the broker can save what waits in it, where its data directory is to be seen (BROKER_DATA_DIR)."""

import time
from datetime import timedelta
from pathlib import Path

from deploy.doctor.findings import Finding, Severity, ago
from shared.broker.data_directory import SAVED, DataDirectory, look
from shared.errors import LocalError
from shared.settings import Settings

SAVED_WITHIN_S = 60.0
"""mosquitto.conf has Mosquitto save every ten seconds; a save of ten million messages takes some more."""
SMALL_BYTES = 256 * 1024 * 1024
_ROOM = 4
"""The free space that is enough, in saves: the queue may grow while nobody looks."""


def examine_broker_disk(settings: Settings) -> list[Finding]:
    """Free space, held against what a save takes, and the age of the last save; nothing where it is not to be seen."""
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
        return Finding(Severity.WRONG, "broker disk", f"{text}, and {_needed(size)}: make room")
    if found.free < max(_ROOM * size, SMALL_BYTES):
        return Finding(Severity.WARNING, "broker disk", f"{text}, and {_needed(size)}: make room before it is full")
    return Finding(Severity.OK, "broker disk", text)


def _needed(size: int) -> str:
    return f"a save takes {size:,} beside the last one. What Mosquitto cannot save is lost when it ends"


def _last_save(found: DataDirectory, directory: Path) -> list[Finding]:
    if found.saved is None:
        return []
    age_s = time.time() - found.saved.changed_at
    when = f"{directory / SAVED} was saved {ago(timedelta(seconds=age_s))}"
    if age_s <= SAVED_WITHIN_S:
        return [Finding(Severity.OK, "broker saved", when)]
    text = (
        f"{when}, and mosquitto.conf has it saved every 10 seconds: what was acknowledged since and still waits is "
        "lost when Mosquitto ends, also at a clean stop. Mosquitto's log says why it cannot save: is the disk full? "
        "Or set autosave_interval 10, as mosquitto.conf has it"
    )
    return [Finding(Severity.WRONG, "broker saved", text)]
