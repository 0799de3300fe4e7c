"""The password file is changed by one process at a time, also when that process ends meanwhile."""

import asyncio
import threading
from pathlib import Path
from typing import Any, Self

from psycopg.rows import TupleRow

from shared.access.credentials import derived_token, digest
from shared.broker.by_file import ByFile
from shared.broker.names import KeyRules
from shared.broker.password_file import PasswordFile
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
