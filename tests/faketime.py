"""A system clock that tests set for single processes, with libfaketime. The monotonic clock is not changed."""

from pathlib import Path

import pytest

_PLACES = ("/usr/lib/*/faketime/libfaketimeMT.so.1", "/usr/lib/faketime/libfaketimeMT.so.1")


class SteppingClock:
    """A clock that is right until a test sets it. Skips the test if libfaketime is not installed."""

    def __init__(self, directory: Path) -> None:
        found = [path for place in _PLACES for path in Path("/").glob(place[1:])]
        if not found:
            pytest.skip("libfaketime is missing: apt-get install faketime")
        self._file = directory / "clock"
        self.set(0)
        self._library = found[0]

    @property
    def environment(self) -> dict[str, str]:
        """Environment variables with which a process sees this clock."""
        return {
            "LD_PRELOAD": str(self._library),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }

    def set(self, offset_s: int) -> None:
        """Set the clock ahead of the true time by this number of seconds, or behind if it is negative."""
        new = self._file.with_suffix(".new")
        new.write_text(f"{offset_s:+d}\n")
        new.chmod(0o644)
        new.replace(self._file)
