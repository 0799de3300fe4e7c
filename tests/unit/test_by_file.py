"""One process at a time changes the password file, also if that process is cancelled."""

import asyncio
import fcntl
import os
import threading
from pathlib import Path
from typing import Any, Self

import pytest
from psycopg.rows import TupleRow

from shared.access.credentials import derived_token, digest
from shared.broker.by_file import ByFile
from shared.broker.names import KeyRules
from shared.broker.password_file import PasswordFile
from shared.errors import BrokerError
from shared.settings import MqttAddress
from tests.waiting import HANG_S

SECRET = "the secret of the tests, which is long enough"
NONCE = bytes(16)


class OneDevice:
    """A connection to a database with one device, whose token is derived from the secret."""

    async def execute(self, *_: object) -> Self:
        return self

    async def fetchall(self) -> list[TupleRow]:
        return [(1, "lathe-7", digest(derived_token(1, NONCE, SECRET)), NONCE)]


async def test_a_cancelled_change_ends_before_the_lock_is_given_up(tmp_path: Path) -> None:
    file = tmp_path / "passwd"
    file.touch()
    began, go_on = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    class Slow(ByFile):
        def read(self) -> PasswordFile:
            loop.call_soon_threadsafe(began.set)
            assert go_on.wait(HANG_S)
            return super().read()

    way = Slow(file, MqttAddress(host="127.0.0.1", port=1), SECRET, KeyRules(True))
    connection: Any = OneDevice()
    bringing = asyncio.create_task(way.reconcile(connection, [1]))
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


async def test_a_process_that_lost_its_lock_keeps_the_lines_of_others(tmp_path: Path) -> None:
    """The lock in the database ends with its connection. The file was then read, changed and replaced by two processes
    at a time, and the lines of the first one were lost."""
    file = tmp_path / "passwd"
    file.touch()

    way = ByFile(file, MqttAddress(host="127.0.0.1", port=1), SECRET, KeyRules(True))
    connection: Any = OneDevice()
    other = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(other, fcntl.LOCK_EX)
    changing = asyncio.create_task(way.reconcile(connection, [1]))
    try:
        done, _ = await asyncio.wait([changing], timeout=0.2)
        assert not done
        file.write_text("ingestor:a line of another process\n")
    finally:
        os.close(other)
    with pytest.raises(BrokerError):
        await changing  # no broker rereads the file
    assert [line.split(":")[0] for line in file.read_text().splitlines()][:2] == ["ingestor", "lathe-7"]
