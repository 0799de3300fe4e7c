"""The identity of a process, and its state as other processes see it."""

import os
import socket
import time
import uuid
from enum import StrEnum
from importlib.metadata import version

import msgspec


class Kind(StrEnum):
    """What a process does: `devicestat ingest`, `serve` or `work`."""

    INGESTOR = "ingestor"
    API = "api"
    WORKER = "worker"


class State(StrEnum):
    """State of a process, by its last report."""

    RUNNING = "running"
    LATE = "late"
    GONE = "gone"
    REPLACED = "replaced"
    """It is gone, and another one has taken its place since."""


class Identity(msgspec.Struct, frozen=True):
    """A process. `name`: the MQTT client id of an ingestor, the address of an API. `began`: monotonic, in seconds."""

    kind: Kind
    name: str
    id: uuid.UUID
    host: str
    pid: int
    version: str
    began: float

    @classmethod
    def own(cls, kind: Kind, name: str) -> "Identity":
        """Return a new identity of this process."""
        return cls(kind, name, uuid.uuid4(), socket.gethostname(), os.getpid(), version("devicestat"), time.monotonic())
