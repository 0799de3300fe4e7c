"""Explanations of Mosquitto's log lines that need an operator.

The lines are those of Mosquitto 2.0 and 2.1, which name neither the file nor the remedy.
"""

import re
from pathlib import Path

from deploy.local.children import Explanation
from shared.broker.data_directory import SAVED

_UNREADABLE = "Error: Couldn't open database."
_DISK_FULL = "No space left on device"
_DROPPING = re.compile(r"Outgoing messages are being dropped for client (?P<client>.+)\.$")
_REPLACED = re.compile(r"Client (?P<client>.+) already connected, closing old connection\.$")


def explain(line: str, data: Path) -> Explanation | None:
    """Explain a line of the log, if it needs an operator.

    `data`: Mosquitto's persistence_location.
    """
    if line.endswith(_UNREADABLE):
        return Explanation(_unreadable(data / SAVED), final=True)
    if _DISK_FULL in line:
        return Explanation(_disk_full(data))
    if match := _DROPPING.search(line):
        return Explanation(_dropping(match["client"]))
    if match := _REPLACED.search(line):
        return Explanation(_replaced(match["client"]))
    return None


def _unreadable(file: Path) -> str:
    return (
        f"Mosquitto cannot read {file}, which has its sessions and queued messages: the file is damaged. Restore it "
        f"from a backup, or move it away (mv {file} {file}.damaged) and start again. Without it the queued messages "
        "are lost; the readings in PostgreSQL are not affected"
    )


def _disk_full(data: Path) -> str:
    return (
        f"the disk of {data} is full, and Mosquitto cannot save its queued messages: they are lost when it stops, also "
        "cleanly. Free space, and keep the ingestor and PostgreSQL running, so that the messages are stored"
    )


def _dropping(client: str) -> str:
    return (
        f"the queue of {client} is full: Mosquitto acknowledges new messages of devices and drops them until there is "
        "room. `devicestat doctor` shows how many messages were dropped"
    )


def _replaced(client: str) -> str:
    return (
        f"a client has connected with the client id {client} of a connected client: Mosquitto closed the older "
        f'connection. The line "New client connected from ADDRESS:PORT as {client}" shows the newer client'
    )
