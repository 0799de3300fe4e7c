"""The announcements of sealed times that one writer knows, and which of its readings are late (ADR 41).

The worker announces, before it seals the readings of a device, up to which time it will. A writer copies older readings
to late_readings. It learns of each announcement when it passes the fence (`deletions.py`).
"""

import numpy as np
from numpy.typing import NDArray

from shared.postgres.arrays import EARLIEST
from shared.readings.rows import Column

_NONE = np.empty(0, np.int64)
Ints = NDArray[np.int64]


class Announcements:
    """The announced time of each device, in microseconds since 1970."""

    def __init__(self) -> None:
        self._devices = _NONE  # ascending
        self._until = _NONE
        self._latest = EARLIEST

    def add(self, devices: Ints, until: Ints) -> None:
        """Note announcements. `devices`: ascending."""
        known = np.isin(devices, self._devices, assume_unique=True)
        self._until[np.searchsorted(self._devices, devices[known])] = until[known]
        if not known.all():
            places = np.searchsorted(self._devices, devices[~known])
            self._devices = np.insert(self._devices, places, devices[~known])
            self._until = np.insert(self._until, places, until[~known])
        self._latest = max(self._latest, int(until.max(initial=EARLIEST)))

    def late(self, columns: Column) -> NDArray[np.bool_] | None:
        """Return which of the readings are older than announced for their device; None if none is.

        `columns`: as `Rows.columns` returns them.
        """
        recorded = columns["recorded_at"]
        if len(columns) == 0 or recorded.min() >= self._latest:
            return None
        is_late = recorded < self._announced(columns["device_id"])
        return is_late if is_late.any() else None

    def _announced(self, devices: Ints) -> Ints:
        places = np.minimum(np.searchsorted(self._devices, devices), len(self._devices) - 1)
        return np.where(self._devices[places] == devices, self._until[places], EARLIEST)
