"""The audit log: rows are written in the transaction of the action, and never changed."""

from collections.abc import Mapping, Sequence
from enum import StrEnum

import msgspec
from psycopg.types.json import Jsonb

from shared.postgres.connections import Connection


class Action(StrEnum):
    """A recorded action."""

    KEY_CREATED = "key.created"
    KEY_ROTATED = "key.rotated"
    KEY_REVOKED = "key.revoked"
    DEVICE_CREATED = "device.created"
    DEVICE_RENAMED = "device.renamed"
    DEVICE_DELETED = "device.deleted"
    DEVICE_TOKEN_ROTATED = "device.token_rotated"  # noqa: S105  # the name of an action
    SCHEDULE_CREATED = "schedule.created"
    SCHEDULE_CHANGED = "schedule.changed"
    SCHEDULE_DELETED = "schedule.deleted"
    ANALYSIS_CANCELLED = "analysis.cancelled"
    RESULT_DELETED = "result.deleted"


class Actor(msgspec.Struct, frozen=True):
    """The actor and its origin: the prefix of a key and the client's address, or a user and a host."""

    name: str
    origin: str


_RECORD = "INSERT INTO audit_log (actor, origin, action, subject, detail) VALUES (%s, %s, %s, %s, %s)"


async def record(connection: Connection, actor: Actor, action: Action, subject: str, **detail: object) -> None:
    """Add a row, in the caller's transaction. `subject`: such as "device 7"."""
    await connection.execute(_RECORD, (actor.name, actor.origin, action, subject, Jsonb(detail)))


_RECORD_ALL = """
    INSERT INTO audit_log (actor, origin, action, subject, detail)
    SELECT %s, %s, %s, subject, detail::jsonb FROM unnest(%s::text[], %s::text[]) AS entry (subject, detail)
"""


async def record_all(
    connection: Connection, actor: Actor, action: Action, entries: Sequence[tuple[str, Mapping[str, object]]]
) -> None:
    """Add a row for each subject with its detail, in the caller's transaction."""
    subjects = [subject for subject, _ in entries]
    details = [msgspec.json.encode(detail).decode() for _, detail in entries]
    await connection.execute(_RECORD_ALL, (actor.name, actor.origin, action, subjects, details))
