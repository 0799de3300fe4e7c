"""The numbers in mosquitto.conf: Mosquitto reads each with atoi, into an int."""

import re
from pathlib import Path

import pytest

CONFIGURATION = (Path(__file__).parents[2] / "mosquitto.conf").read_text(encoding="utf-8")
NUMBERS = dict(re.findall(r"^(\w+) (\d+)$", CONFIGURATION, re.MULTILINE))
LARGEST_INT = 2**31 - 1


def test_the_numbers_are_the_known_ones() -> None:
    assert NUMBERS.keys() == {
        "max_queued_messages", "max_queued_bytes", "max_inflight_messages", "max_packet_size", "autosave_interval",
    }  # fmt: skip


@pytest.mark.parametrize("name", NUMBERS)
def test_each_fits_an_int(name: str) -> None:
    """A larger number wraps in Mosquitto 2.0 (4000000000 means no limit), and prevents the start of 2.1."""
    assert 0 < int(NUMBERS[name]) <= LARGEST_INT
