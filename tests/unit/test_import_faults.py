"""`devicestat devices import` if its tokens cannot be written, or its input cannot be read."""

import errno
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from deploy.devices import imports as import_devices
from deploy.devices.api_client import DeviceWithToken, NotCarriedOut
from deploy.devices.imports import DeviceLine
from shared.errors import LocalError


class Api:
    """Registers all."""

    def register_all(self, devices: Sequence[Mapping[str, str]]) -> list[DeviceWithToken]:
        return [DeviceWithToken(id=1, key=one["key"], mqtt_username="device-1", token="dst_1") for one in devices]


def test_a_full_disk_leaves_no_part_of_a_line_and_says_which_devices_have_lost_their_tokens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens = tmp_path / "tokens.csv"
    tokens.write_text("key,id,mqtt_username,token\n")
    tokens.chmod(0o600)
    write, room = os.write, [10]

    def full(descriptor: int, data: bytes) -> int:
        if not room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(descriptor, data[: room.pop()])

    monkeypatch.setattr(os, "write", full)
    api: Any = Api()
    with pytest.raises(LocalError) as caught:
        import_devices.import_devices(api, [DeviceLine(2, "a", "A"), DeviceLine(3, "b", "B")], tokens)
    assert str(caught.value).startswith(f"{tokens} cannot be written: No space left on device\nlines 2 to 3 may be")
    assert tokens.read_text() == "key,id,mqtt_username,token\n"


def test_standard_input_that_is_not_utf_8_is_said_to_be_so() -> None:
    command = "from pathlib import Path\nfrom deploy.devices.imports import read_file\nread_file(Path('-'))"
    environment = {**os.environ, "LC_ALL": "C"}
    result = subprocess.run(
        [sys.executable, "-c", command], input=b"key,name\nb,\xff\n", env=environment, capture_output=True
    )
    assert b"standard input is not UTF-8: save it as CSV in UTF-8" in result.stderr


def test_the_error_counts_the_devices_that_were_registered_before_the_api_refused(tmp_path: Path) -> None:
    class Refusing(Api):
        def register_all(self, devices: Sequence[Mapping[str, str]]) -> list[DeviceWithToken]:
            if devices[0]["key"] == "b":
                raise NotCarriedOut("the API does not answer")
            return super().register_all(devices)

    api: Any = Refusing()
    lines = [DeviceLine(2, "a", "A"), DeviceLine(4, "b", "B")]
    with pytest.raises(LocalError) as caught:
        import_devices.import_devices(api, lines, tmp_path / "tokens.csv", batch=1)
    assert str(caught.value) == (
        "the API does not answer\n1 device registered; none from line 4 on: run the command again"
    )
    with pytest.raises(LocalError) as caught:
        import_devices.import_devices(api, lines[1:], tmp_path / "tokens.csv")
    assert str(caught.value) == "the API does not answer"
