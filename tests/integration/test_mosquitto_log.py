"""Log lines of a real Mosquitto that an operator has to act on are explained."""

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from deploy.mosquitto import EmbeddedMosquitto
from shared.errors import LocalError
from tests.ports import free_port
from tests.publisher import Message, publish_all


@pytest.fixture
def stopped() -> Iterator[EmbeddedMosquitto]:
    """A broker that has saved its sessions and was stopped."""
    with tempfile.TemporaryDirectory(prefix="ds") as directory:
        with EmbeddedMosquitto(Path(directory), free_port()) as broker:
            publish_all(broker.host, broker.port, [Message(bytes(10_000), retain=True)])
        yield broker


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
