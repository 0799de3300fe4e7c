"""The audit log: rows are written in the transaction of the action, and never changed."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Any, LiteralString

import msgspec
from psycopg.rows import class_row
from psycopg.types.json import Jsonb

from shared.event_loop.parts import AT_ONCE_SLOW, fetched
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
    ANALYSIS_RETRIED = "analysis.retried"
    RESULT_DELETED = "result.deleted"
    SIGNED_IN = "session.created"
    SIGNED_OUT = "session.ended"
    SIGN_IN_REFUSED = "session.refused"
    REPLAY_BEGUN = "dead_letters.replay_begun"
    """Written before the first dead letter of a replay over HTTP, with their number and the selection."""
    LETTERS_REPLAYED = "dead_letters.replayed"
    LETTERS_PURGED = "dead_letters.purged"
    AUDIT_EXPIRED = "audit.expired"
    """Written by expire_audit_entries of the database."""


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


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """A row of the audit log."""

    id: int
    recorded_at: datetime
    actor: str
    origin: str
    action: str
    subject: str
    detail: Mapping[str, Any]
    database_role: str


class Filter(msgspec.Struct, frozen=True, kw_only=True):
    """Conditions on entries, all of which must hold. None: any. Both times are included."""

    actor: str | None = None
    action: Action | None = None
    start: datetime | None = None
    end: datetime | None = None


_SELECT = """
    SELECT id, at AS recorded_at, actor, origin, action, subject, detail, database_role
    FROM audit_log WHERE id < %(before)s
"""
_CONDITIONS: dict[str, LiteralString] = {
    "actor": " AND actor = %(actor)s",
    "action": " AND action = %(action)s",
    "start": " AND at >= %(start)s",
    "end": " AND at <= %(end)s",
}
_NEWEST_FIRST = " ORDER BY id DESC LIMIT %(limit)s"


async def select(connection: Connection, wanted: Filter, before: int, limit: int) -> list[Entry]:
    """Return entries with ids below `before`, newest first."""
    async with connection.cursor(row_factory=class_row(Entry)) as cursor:
        await cursor.execute(query(wanted), {**msgspec.structs.asdict(wanted), "before": before, "limit": limit})
        return await fetched(cursor, AT_ONCE_SLOW)


def query(wanted: Filter) -> LiteralString:
    """Return the query with the conditions that are given, so that each combination has its own plan."""
    conditions = [condition for name, condition in _CONDITIONS.items() if getattr(wanted, name) is not None]
    return _SELECT + "".join(conditions) + _NEWEST_FIRST
