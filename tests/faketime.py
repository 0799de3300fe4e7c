"""The system's clock as one process sees it, to be set by a test: libfaketime. The monotonic clock stays as it is."""

from pathlib import Path

import pytest

_PLACES = ("/usr/lib/*/faketime/libfaketimeMT.so.1", "/usr/lib/faketime/libfaketimeMT.so.1")


class SteppingClock:
    """A clock that is right until a test sets it. Skips the test where libfaketime is not installed."""

    def __init__(self, directory: Path) -> None:
        found = [path for place in _PLACES for path in Path("/").glob(place[1:])]
        if not found:
            pytest.skip("libfaketime is missing: apt-get install faketime")
        self._file = directory / "clock"
        self.set(0)
        self._library = found[0]

    @property
    def environment(self) -> dict[str, str]:
        """What a process needs in its environment to see this clock."""
        return {
            "LD_PRELOAD": str(self._library),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }

    def set(self, offset_s: int) -> None:
        """Set it so many seconds ahead of the true time, or behind."""
        new = self._file.with_suffix(".new")
        new.write_text(f"{offset_s:+d}\n")
        new.chmod(0o644)
        new.replace(self._file)
