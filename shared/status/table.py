"""The rows of all processes, and the state of each."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from uuid import UUID

import msgspec

from shared.postgres.connections import Connection
from shared.status.figures import Document
from shared.status.process import Kind, State

LATE_S = 15.0
"""Time without a report after which a process is late. It reports every five seconds."""
GONE_S = 45.0
"""Time without a report after which it counts as gone."""
AHEAD_S = 5.0
"""A report that is dated later by this time is from before the database's clock was set back. A process that runs
replaces it within five seconds."""


class Process(msgspec.Struct, frozen=True, kw_only=True):
    """A process by its last report. `age_s`: seconds since then. `document`: None if it cannot be read."""

    id: UUID
    kind: Kind
    name: str
    host: str
    pid: int
    version: str
    started_at: datetime
    updated_at: datetime
    age_s: float
    state: State
    document: Document | None


_SELECT = """
    SELECT id, kind, name, host, pid, version, started_at, updated_at,
           extract(epoch FROM now() - updated_at)::float8, document::text
    FROM process_status
    ORDER BY kind, name, started_at, id
"""


async def select(connection: Connection) -> list[Process]:
    """Return all processes that have reported within fifteen minutes, by kind and name."""
    rows = await (await connection.execute(_SELECT)).fetchall()
    return with_replacements([_process(*row) for row in rows])


def _process(
    process_id: UUID, kind: str, name: str, host: str, pid: int, version: str, started_at: datetime,
    updated_at: datetime, age_s: float, document: str,
) -> Process:  # fmt: skip
    return Process(
        id=process_id, kind=Kind(kind), name=name, host=host, pid=pid, version=version, started_at=started_at,
        updated_at=updated_at, age_s=age_s, state=state_at(age_s), document=_document(document),
    )  # fmt: skip


def _document(text: str) -> Document | None:
    try:
        return msgspec.json.decode(text, type=Document)
    except msgspec.DecodeError:  # of a version with another form
        return None


def state_at(age_s: float) -> State:
    """Return the state of a process by the age of its last report."""
    if age_s > GONE_S:
        return State.GONE
    return State.RUNNING if -AHEAD_S <= age_s <= LATE_S else State.LATE


def with_replacements(processes: Sequence[Process]) -> list[Process]:
    """Mark the gone processes that have been replaced.

    A process replaces one that is gone if it started after the other's last report: an ingestor with its client id,
    an API or a worker on its host. Each replaces one at most.
    """
    younger = [process for process in processes if process.state is State.RUNNING]
    return [_replaced_by(process, younger) for process in processes]


def _replaced_by(process: Process, younger: list[Process]) -> Process:
    if process.state is not State.GONE:
        return process
    successor = next((one for one in younger if _replaces(one, process)), None)
    if successor is None:
        return process
    younger.remove(successor)
    return msgspec.structs.replace(process, state=State.REPLACED)


def _replaces(successor: Process, process: Process) -> bool:
    is_same_place = successor.name == process.name if process.kind is Kind.INGESTOR else successor.host == process.host
    return successor.kind is process.kind and is_same_place and successor.started_at >= process.updated_at


def running(processes: Iterable[Process], kind: Kind) -> list[Process]:
    """Return the running processes of a kind."""
    return [process for process in processes if process.kind is kind and process.state is State.RUNNING]
