"""Explanations of log lines of a real Mosquitto that need an operator."""

import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from deploy.doctor.broker_connection import connected, own_client_id
from deploy.local.mosquitto import EmbeddedMosquitto
from shared.errors import LocalError
from shared.settings import parse_mqtt_url
from tests.ports import free_port
from tests.publisher import Message, publish_all


@pytest.fixture
def stopped() -> Iterator[EmbeddedMosquitto]:
    """A stopped broker with saved sessions."""
    with tempfile.TemporaryDirectory(prefix="ds") as directory:
        with EmbeddedMosquitto(Path(directory), free_port()) as broker:
            publish_all(broker.host, broker.port, [Message(bytes(10_000), retain=True)])
        yield broker


@pytest.mark.skipif(os.geteuid() != 0, reason="run as root, which starts Mosquitto as another user")
async def test_a_file_that_root_has_restored_is_read(stopped: EmbeddedMosquitto) -> None:
    """Mosquitto starts without an error on an unreadable file, and then overwrites it."""
    os.chown(stopped.data / "mosquitto.db", 0, 0)
    with stopped:
        async with connected(parse_mqtt_url(stopped.url), own_client_id()) as connection:
            await connection.subscribe("#", retained=True)
            message = await connection.message(10)
    assert message is not None
    assert len(message.payload) == 10_000


def test_a_file_that_may_not_be_read_is_named(stopped: EmbeddedMosquitto, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stopped, "user", None)  # as a user without root's rights to change the owner
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(LocalError, match=r"mosquitto\.db, with .* cannot be read: change its owner"):
        stopped.start()


@pytest.mark.parametrize(
    "damage",
    [
        lambda good: b"no such format" * 50,
        lambda good: good[: len(good) // 2],
        lambda good: good[:10],
        lambda good: bytes(len(good)),
    ],
    ids=["another format", "cut off", "cut off in its header", "zeros"],
)
def test_a_damaged_file_is_named_with_the_way_out(stopped: EmbeddedMosquitto, damage: Callable[[bytes], bytes]) -> None:
    file = stopped.data / "mosquitto.db"
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(LocalError) as refused:
        stopped.start()
    assert f"cannot read {file}, " in str(refused.value)
    assert f"(mv {file} {file}.damaged)" in str(refused.value)
    file.rename(file.with_suffix(".damaged"))
    stopped.start()
    stopped.stop()
