"""What the log lines of Mosquitto mean that an operator has to act on.

The words are those of Mosquitto 2.0 and 2.1. Mosquitto itself names neither the file nor the way out.
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
    """Explain a line of the log, if an operator has to act on it.

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
        f"Mosquitto cannot read {file}, where it keeps its sessions and the messages that wait: the file is damaged. "
        f"Restore it from a backup, or move it away (mv {file} {file}.damaged) and start again. Without it the "
        "messages that waited in the broker are lost; what is in PostgreSQL is not affected"
    )


def _disk_full(data: Path) -> str:
    return (
        f"the disk of {data} is full, and Mosquitto cannot save the messages that wait: they are lost if it ends, also "
        "at a clean stop. Make room, and keep the ingestor and PostgreSQL running, so that they are stored"
    )


def _dropping(client: str) -> str:
    return (
        f"the queue of {client} is full: Mosquitto acknowledges what devices publish, and drops it, until there is "
        "room. `devicestat doctor` shows how many messages were dropped"
    )


def _replaced(client: str) -> str:
    return (
        f"a client has connected with the client id {client}, which another had: Mosquitto has closed the older "
        f'connection. The line "New client connected from ADDRESS:PORT as {client}" shows where the newer one is'
    )
