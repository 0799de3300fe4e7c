"""Devices in the broker's password file: a real Mosquitto that reads the file anew when it changes."""

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest
from prometheus_client import CollectorRegistry

from deploy.doctor import examine
from deploy.doctor.connection import BrokerConnection, connected, own_client_id
from shared.broker import by_file
from shared.broker.outbox import Change, Outbox, queue, waiting
from shared.errors import BrokerUnreachable, ConnectionRefused
from shared.settings import MqttAddress, Settings
from tests import command
from tests.closed_broker import give_token, remove
from tests.conftest import Database
from tests.ingestion import running_ingestor
from tests.password_file_broker import INGESTOR, PasswordFileBroker
from tests.waiting import eventually

READING = b'{"x":1,"y":2,"z":3}'


@pytest.fixture
def closed() -> Iterator[PasswordFileBroker]:
    """A broker that knows no device yet."""
    with tempfile.TemporaryDirectory(prefix="ds") as directory, PasswordFileBroker(Path(directory)) as broker:
        yield broker


@pytest.fixture
def settings(closed: PasswordFileBroker, make_settings: Callable[..., Settings]) -> Settings:
    return closed.settings(make_settings(http_host="127.0.0.1"))


@asynccontextmanager
async def telling(settings: Settings) -> AsyncIterator[None]:
    """The outbox is applied until the end of the block."""
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(Outbox(settings, CollectorRegistry()).run(), name="outbox under test")
        yield
        task.cancel()


async def told(database: Database) -> None:
    """Waits until the broker knows."""
    await eventually(lambda: waiting(database), lambda count: count == 0)


async def is_refused(address: MqttAddress, client_id: str = "any") -> bool:
    try:
        async with connected(address, client_id):
            return False
    except ConnectionRefused:
        return True


async def cut_off(connection: BrokerConnection) -> float:
    """Waits until the broker ends the connection; the seconds that it took."""
    began = time.monotonic()
    with pytest.raises(BrokerUnreachable):
        await connection.message(10)
    return time.monotonic() - began


def given_of(settings: Settings) -> dict[str, object]:
    names = ("database_url", "mqtt_url", "broker_passwords", "device_secret")
    return {name: getattr(settings, name) for name in names}


async def test_a_device_publishes_to_its_own_topic_and_its_readings_are_stored(
    closed: PasswordFileBroker, settings: Settings, database: Database
) -> None:
    async with closed.watched(), telling(settings), running_ingestor(settings):
        token = await give_token(database, 7)
        await give_token(database, 8)
        await told(database)
        async with connected(closed.as_device("7", token), "another") as device:
            await device.publish("devices/7/stats", READING)
            await device.publish("devices/8/stats", READING)
            await device.publish("devices/7/stats", READING)

        async def stored() -> list[tuple[object, ...]]:
            return await (await database.execute("SELECT device_id FROM readings")).fetchall()

        rows = await eventually(stored, lambda rows: len(rows) >= 2)
        assert [row[0] for row in rows] == [7, 7]
    assert await is_refused(closed.as_device("8", token))
    assert await is_refused(MqttAddress(host=closed.host, port=closed.device_port))


async def test_rotation_and_deletion_cut_off(
    closed: PasswordFileBroker, settings: Settings, database: Database
) -> None:
    async with closed.watched(), telling(settings):
        old = await give_token(database, 7)
        kept = await give_token(database, 8)
        await told(database)
        async with (
            connected(closed.as_device("7", old), "device") as device,
            connected(closed.as_device("8", kept), "other") as other,
        ):
            new = await give_token(database, 7)
            assert await cut_off(device) < by_file.RELOAD_S
            await told(database)
            assert await is_refused(closed.as_device("7", old))
            async with connected(closed.as_device("7", new), "device") as again:
                await remove(database, 7)
                assert await cut_off(again) < by_file.RELOAD_S
            await told(database)
            assert await is_refused(closed.as_device("7", new))
            await other.publish("devices/8/stats", READING)
            assert not await is_refused(settings.broker)


async def test_a_device_cannot_take_the_ingestors_session(
    closed: PasswordFileBroker, settings: Settings, database: Database
) -> None:
    async with closed.watched(), telling(settings):
        token = await give_token(database, 7)
        await told(database)
    client_id = own_client_id()
    async with connected(settings.broker, client_id) as ingestor:
        async with connected(closed.as_device("7", token), client_id) as device:
            await device.publish("devices/7/stats", READING)
        await ingestor.subscribe("devices/+/stats")


async def test_a_broker_that_does_not_read_the_file_is_named_and_nothing_is_forgotten(
    closed: PasswordFileBroker, settings: Settings, database: Database,
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(by_file, "RELOAD_S", 0.5)
    token = await give_token(database, 7)
    said: list[str] = []

    async def warned() -> bool:
        said.append(capsys.readouterr().out)
        return "has not read" in "".join(said)

    async with telling(settings):
        await eventually(warned, bool)
        assert await waiting(database) == 1
        monkeypatch.undo()
        async with closed.watched():  # the change is there already, and its signal was missed
            await told(database)
    assert not await is_refused(closed.as_device("7", token))


async def test_keys_that_cannot_be_user_names_are_said_and_others_users_stay(
    closed: PasswordFileBroker, settings: Settings, database: Database, capsys: pytest.CaptureFixture[str]
) -> None:
    async with closed.watched(), telling(settings):
        for number, key in ((7, "ingestor"), (8, "a:b"), (9, "devicestat-witness"), (10, "fine")):
            await database.execute("INSERT INTO devices (id, key, name) VALUES (%s, %s, 'press')", (number, key))
            await give_token(database, number)
        await told(database)
    said = capsys.readouterr().out
    assert all(f"device={number}" in said for number in (7, 8, 9))
    assert not await is_refused(settings.broker)
    users = {line.partition(":")[0] for line in closed.file.read_text().splitlines()}
    assert users == {INGESTOR.partition(":")[0], "fine", "devicestat-witness"}


async def test_the_file_is_compared_and_mended(
    closed: PasswordFileBroker, settings: Settings, database: Database
) -> None:
    async with closed.watched():
        async with telling(settings):
            token = await give_token(database, 7)
            await give_token(database, 8)
            await told(database)
        lines = closed.file.read_text().splitlines()
        closed.file.write_text("".join(f"{line}\n" for line in lines if not line.startswith("7:")))
        await give_token(database, 8, tell=False)
        found = {finding.text for finding in await examine(settings) if finding.what == "access"}
        assert any("differs from the database in 2 devices" in text for text in found)
        listed = await command.arun("broker", "sync", "--dry-run", **given_of(settings))
        assert (listed.returncode, listed.stdout.count("another line in the password file")) == (1, 2)
        mended = await command.arun("broker", "sync", **given_of(settings))
        assert (mended.returncode, mended.stdout.count("mended")) == (0, 2), mended.stderr
        again = await command.arun("broker", "sync", **given_of(settings))
        assert "has what the database does" in again.stdout
        assert not await is_refused(closed.as_device("7", token))


async def test_a_row_too_many_changes_nothing(
    closed: PasswordFileBroker, settings: Settings, database: Database
) -> None:
    async with closed.watched(), telling(settings):
        await give_token(database, 7)
        await told(database)
        before = closed.file.stat().st_ino
        await queue(database, [7, 99], Change.REGISTRATION)
        await told(database)
        assert closed.file.stat().st_ino == before


async def test_a_file_that_is_not_there_is_named(
    settings: Settings, database: Database, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    missing = msgspec.structs.replace(settings, broker_passwords=str(tmp_path / "none"))
    await give_token(database, 7)

    async def warned() -> bool:
        return "cannot be read (No such file or directory)" in capsys.readouterr().out

    async with telling(missing):
        await eventually(warned, bool)
    assert await waiting(database) == 1
