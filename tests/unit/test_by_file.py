"""The password file is changed by one process at a time, also when that process ends meanwhile."""

import asyncio
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from shared.access.credentials import digest
from shared.broker import by_file
from shared.broker.device_credentials import DeviceCredential
from shared.broker.names import KeyRules
from shared.settings import MqttAddress
from tests.waiting import HANG_S

SECRET = "the secret of the tests, which is long enough"


async def test_a_cancelled_change_ends_before_the_lock_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "passwd"
    file.touch()
    began, go_on = asyncio.Event(), threading.Event()
    loop, render = asyncio.get_running_loop(), by_file.render

    def slow_render(*given: Any) -> str:
        loop.call_soon_threadsafe(began.set)
        assert go_on.wait(HANG_S)
        return render(*given)

    async def devices(*_: object) -> dict[int, DeviceCredential]:
        return {1: DeviceCredential(1, "lathe-7", digest("token"), "token")}

    monkeypatch.setattr(by_file, "render", slow_render)
    monkeypatch.setattr(by_file, "credentials_of", devices)
    target: Any = by_file.ByFile(file, MqttAddress(host="127.0.0.1", port=1), SECRET, KeyRules(True))
    numbers: Sequence[int] = [1]
    bringing = asyncio.create_task(target.reconcile(None, numbers))
    try:
        await asyncio.wait_for(began.wait(), HANG_S)
        bringing.cancel()
        for _ in range(10):
            await asyncio.sleep(0)
        assert not bringing.done()
    finally:
        go_on.set()
        await asyncio.wait([bringing])
    assert bringing.cancelled()
    assert file.read_text().startswith("lathe-7:")
