"""Conditions on dead letters."""

import re
from collections.abc import Sequence
from datetime import datetime
from typing import Any, LiteralString

import msgspec


class Selection(msgspec.Struct, frozen=True, kw_only=True):
    """Conditions on dead letters, all of which must hold. None: any.

    `topic`: a topic filter. `ids`: the dead letters themselves. `after`, `up_to`: ids above, and up to.
    """

    reason: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    topic: str | None = None
    ids: Sequence[int] | None = None
    after: int | None = None
    up_to: int | None = None


_CONDITIONS: dict[str, LiteralString] = {
    "reason": "jsonb_exists(reasons, %(reason)s)",
    "since": "received_at >= %(since)s",
    "until": "received_at <= %(until)s",
    "topic": "topic ~ %(topic)s",
    "ids": "id = ANY(%(ids)s)",
    "after": "id > %(after)s",
    "up_to": "id <= %(up_to)s",
}


def where(selection: Selection) -> LiteralString:
    """Return the WHERE of the conditions that are given."""
    given = [condition for name, condition in _CONDITIONS.items() if getattr(selection, name) is not None]
    return " WHERE " + " AND ".join(["true", *given])


def parameters(selection: Selection) -> dict[str, Any]:
    """Return the parameters of `where`."""
    topic = None if selection.topic is None else topic_pattern(selection.topic)
    ids = None if selection.ids is None else list(selection.ids)
    return {**msgspec.structs.asdict(selection), "topic": topic, "ids": ids}


def topic_pattern(topic_filter: str) -> str:
    """Return the topic filter as a regular expression: + is any one level, # any further levels at the end."""
    levels = topic_filter.split("/")
    rest = levels[-1] == "#"
    pattern = "/".join("[^/]*" if level == "+" else re.escape(level) for level in levels[: -1 if rest else None])
    if not rest:
        return f"^{pattern}$"
    return f"^{pattern}(/.*)?$" if pattern else "^.*$"  # MQTT-4.7.1-2: a/# includes a


def is_topic_filter(text: str) -> bool:
    """Return whether the text is a topic filter: + and # are whole levels, # is the last one (MQTT-4.7.1-1, -2)."""
    levels = text.split("/")
    if levels[-1] == "#":
        levels.pop()
    return bool(text) and not any(level != "+" and set("+#\0") & set(level) for level in levels)
