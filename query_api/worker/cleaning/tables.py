"""What bounds each table of the schema, and the cleaners of those that need one."""

from query_api.worker.cleaning import requests
from query_api.worker.cleaning.rounds import Cleaner
from shared.settings import Settings

_CLEANERS = (requests.cleaner,)


def cleaners(settings: Settings) -> list[Cleaner]:
    """Return the cleaners that these settings ask for."""
    return [made for make in _CLEANERS if (made := make(settings)) is not None]
