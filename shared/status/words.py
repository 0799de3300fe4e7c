"""Numbers, ages and foreign text in messages for people."""

from datetime import timedelta

_UNITS = ((86_400, "day"), (3600, "hour"), (60, "minute"))


def printable(text: str) -> str:
    """Return the text with control and invisible characters escaped, except line ends and tabs."""
    return "".join(c if c.isprintable() or c in "\n\t" else ascii(c)[1:-1] for c in text)


def counted(count: int, thing: str) -> str:
    """Return a number with its noun: 1 reading, 2,000 readings."""
    return f"{count:,} {thing}{'' if count == 1 else 's'}"


def lasting(age: timedelta) -> str:
    """Return the duration in words, in the largest unit of which it has at least two: 90 seconds, 2 minutes."""
    seconds = max(0, int(age.total_seconds()))
    for length, unit in _UNITS:
        if seconds >= 2 * length:
            return counted(seconds // length, unit)
    return counted(seconds, "second")


def ago(age: timedelta) -> str:
    """Return the age in words, as `lasting`: 90 seconds ago."""
    return f"{lasting(age)} ago"
