"""Suggest the valid name for a misspelt one, or for the name that another API uses."""

from collections.abc import Collection
from difflib import get_close_matches

_LIKENESS = 0.6
_MEANT = {
    "start": ("from", "since", "after", "begin", "start_time", "start_date", "startdate", "date_from"),
    "end": ("to", "until", "till", "before", "stop", "end_time", "end_date", "enddate", "date_to"),
    "timezone": ("tz", "zone", "time_zone"),
    "search": ("q", "query", "filter", "name", "key"),
    "cursor": ("page", "offset", "skip", "after", "next", "page_token"),
    "limit": ("n", "count", "size", "page_size", "per_page", "max", "top"),
    "order": ("sort", "sort_by", "direction", "dir", "desc"),
    "interval": ("bucket", "step", "every", "window", "resolution", "granularity"),
    "points": ("max_points", "n", "samples", "resolution"),
    "device_id": ("device", "id", "ids", "devices", "device_ids"),
    "figures": ("stats", "metrics", "aggregate", "percentiles"),
    "format": ("type", "output", "as", "fmt"),
    "callback": ("webhook", "callback_url", "url"),
    "status": ("state",),
    "name": ("title", "label"),
    "key": ("topic", "slug"),
    "cron": ("schedule", "every"),
    "period": ("range", "window", "duration"),
}
"""Names in other APIs of a parameter or field of this one."""


def nearest(name: str, known: Collection[str]) -> str | None:
    """Return the known name nearest in meaning, or else in spelling; None if none is near."""
    written = name.lower().replace("-", "_")
    for meant, others in _MEANT.items():
        if meant in known and written in others:
            return meant
    return next(iter(get_close_matches(written, known, 1, _LIKENESS)), None)


def not_known(name: str, known: Collection[str], kind: str) -> str:
    """Return the message about an unknown name, with the nearest and all known names. `kind`: such as "field"."""
    meant = nearest(name, known)
    question = f": did you mean {meant}?" if meant else "."
    listed = f"Valid {kind}s: {', '.join(sorted(known))}" if known else f"No {kind}s are valid here"
    return f"unknown {kind}{question} {listed}"
