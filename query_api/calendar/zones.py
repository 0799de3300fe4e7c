"""Time zones by their names in the IANA database, as the package tzdata has it."""

from functools import cache
from importlib import resources
from zoneinfo import ZoneInfo

from query_api.errors import displayed


def read_zone(name: str) -> ZoneInfo:
    """The time zone of this name. Raises ValueError, which says what would be right."""
    if name not in _names():
        raise ValueError(
            f'expected a name of the IANA time zone database such as "Europe/Berlin", got {displayed(name)}'
        )
    return ZoneInfo(name)


@cache
def _names() -> frozenset[str]:
    """What every machine has; that of a machine may have more, which another one's worker could not read."""
    return frozenset((resources.files("tzdata") / "zones").read_text(encoding="utf-8").split())
