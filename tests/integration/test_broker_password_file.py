"""Devices in the broker's password file: a real Mosquitto, which rereads the file when it changes."""

import re
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import msgspec
import pytest

from deploy.doctor import Severity, examine
from deploy.doctor.broker_connection import connected, own_client_id
from ingestor.session.probe import Sent, send_probe
from ingestor.session.session import Session
from ingestor.session.subscription_check import CheckTiming, SubscriptionCheck
from shared.broker.by_file import RELOAD_S, ByFile
from shared.broker.names import rules_of
from shared.broker.outbox import Change, by_file, queue, waiting
from shared.broker.password_file import PasswordFile
from shared.errors import ConnectionRefused
from shared.settings import MqttAddress, Settings
from tests import command, services
from tests.broker_outbox import cut_off, telling, told
from tests.closed_broker import SECRET, give_token, remove
from tests.conftest import Database
from tests.ingestion import health, metrics, running_ingestor
from tests.password_file_broker import INGESTOR, RULES, PasswordFileBroker
from tests.waiting import eventually

EMPTY = "devicestat_ingest_messages_empty_total"
READING = b'{"x":1,"y":2,"z":3}'


@pytest.fixture
def closed() -> Iterator[PasswordFileBroker]:
    """A broker without devices."""
    with tempfile.TemporaryDirectory(prefix="ds") as directory, PasswordFileBroker(Path(directory)) as broker:
        yield broker


@pytest.fixture
def settings(closed: PasswordFileBroker, make_settings: Callable[..., Settings]) -> Settings:
    return closed.settings(make_settings(http_host="127.0.0.1"))


async def is_refused(address: MqttAddress, client_id: str = "any") -> bool:
    try:
        async with connected(address, client_id):
            return False
    except ConnectionRefused:
        return True


def given_of(settings: Settings) -> dict[str, object]:
    names = ("database_url", "mqtt_url", "mqtt_client_id", "broker_passwords", "device_secret")
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
            assert await cut_off(device) < RELOAD_S
            await told(database)
            assert await is_refused(closed.as_device("7", old))
            async with connected(closed.as_device("7", new), "device") as again:
                await remove(database, 7)
                assert await cut_off(again) < RELOAD_S
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
    closed: PasswordFileBroker, settings: Settings, database: Database, capsys: pytest.CaptureFixture[str]
) -> None:
    way = by_file(settings)
    way.reload_s = 0.5
    token = await give_token(database, 7)
    said: list[str] = []

    async def warned() -> bool:
        said.append(capsys.readouterr().out)
        return "has not read" in "".join(said)

    async with telling(settings, way):
        await eventually(warned, bool)
        assert await waiting(database) == 1
        way.reload_s = RELOAD_S
        async with closed.watched():  # the change was written before, and its signal was lost
            await told(database)
    assert not await is_refused(closed.as_device("7", token))


async def add(database: Database, number: int, key: str) -> str:
    """Register a device with the key, as an earlier API that accepted every key; return its token."""
    await database.execute("INSERT INTO devices (id, key, name) VALUES (%s, %s, 'press')", (number, key))
    return await give_token(database, number)


async def test_keys_that_cannot_be_user_names_are_said_and_others_users_stay(
    closed: PasswordFileBroker, settings: Settings, database: Database, capsys: pytest.CaptureFixture[str]
) -> None:
    unfit = {7: "ingestor", 8: "a:b", 9: "devicestat-witness", 10: settings.mqtt_client_id, 11: "devicestat-probe"}
    async with closed.watched(), telling(settings):
        for number, key in {**unfit, 12: "fine"}.items():
            await add(database, number, key)
        await told(database)
    said = capsys.readouterr().out
    assert all(f"device={number}" in said and f"key={key}" in said for number, key in unfit.items())
    assert not await is_refused(settings.broker)
    users = {line.partition(":")[0] for line in closed.file.read_text().splitlines()}
    assert users == {INGESTOR.partition(":")[0], "fine", "devicestat-witness"}
    found = {finding.text for finding in await examine(settings) if finding.what == "keys of devices"}
    assert [text.partition(":")[0] for text in found] == ["5 devices cannot connect"]
    listed = await command.arun("broker", "sync", "--dry-run", **given_of(settings))
    assert (listed.returncode, listed.stdout.count("cannot connect")) == (0, 5)
    assert "the key 'a:b' of device 8 has a colon" in listed.stdout


async def test_a_device_with_the_ingestors_client_id_as_its_key_does_not_end_the_ingestors_session(
    closed: PasswordFileBroker, settings: Settings, database: Database
) -> None:
    key = settings.mqtt_client_id
    async with closed.watched(), telling(settings):
        token = await add(database, 7, key)
        await told(database)
    async with connected(settings.broker, key, expiry_s=60, forget=False):
        assert await is_refused(closed.as_device(key, token))
    async with connected(settings.broker, key, clean_start=False) as ingestor:
        assert ingestor.connack.session_present


async def test_a_device_with_the_ingestors_user_name_is_not_the_ingestor_where_the_file_lacks_it(
    closed: PasswordFileBroker, settings: Settings, database: Database
) -> None:
    closed.file.write_text("")
    async with closed.watched(), telling(settings):
        token = await add(database, 7, "ingestor")
        fine = await add(database, 8, "fine")
        await told(database)
    assert not await is_refused(closed.as_device("fine", fine))
    assert await is_refused(closed.as_device("ingestor", token))


UNFIT = ["ingestor", "grafana", "a:b", "devicestat-witness", "devicestat-probe", "CLIENT_ID", "CLIENT_ID.process-2"]


@pytest.mark.parametrize("key", UNFIT)
async def test_an_unfit_key_is_refused_at_registration(
    key: str, closed: PasswordFileBroker, settings: Settings, database: Database
) -> None:
    with closed.file.open("a") as file:
        file.write("grafana:$7$101$c2FsdHNhbHQ=$aGFzaA==\n")
    key = key.replace("CLIENT_ID", settings.mqtt_client_id)
    new = {"key": key, "name": "press"}
    async with services.api(settings) as api:
        single = await api.post("/devices", json=new)
        assert (single.status_code, single.json()["errors"][0]["field"]) == (422, "key")
        assert repr(key) in single.json()["detail"]
        for existing in ("refuse", "skip"):
            several = await api.post(f"/devices?existing={existing}", json=[{"name": "one"}, new])
            assert (several.status_code, several.json()["errors"][0]["field"]) == (422, "[1].key")
        assert (await api.get("/devices")).json() == []


async def test_keys_that_look_alike_are_two_users(
    closed: PasswordFileBroker, settings: Settings, database: Database
) -> None:
    """Composed and decomposed forms are two keys in PostgreSQL, two topics in MQTT, and two lines."""
    keys = ["caf\u00e9", "cafe\u0301", "%u", "k" * 128]
    async with closed.watched(), services.api(settings) as api:
        made = (await api.post("/devices", json=[{"key": key, "name": "press"} for key in keys])).json()
        await told(database)
        for device, other in zip(made, [*made[1:], made[0]], strict=True):
            async with connected(closed.as_device(device["mqtt_username"], device["token"]), "any") as connection:
                own = await connection.publish(f"devices/{device['key']}/stats", READING)
                others = await connection.publish(f"devices/{other['key']}/stats", READING)
                assert (own.accepted, others.refused) == (1, 1)
            assert await is_refused(closed.as_device(other["mqtt_username"], device["token"]))


async def test_a_broker_that_forbids_the_probe_is_said_once_and_the_ingestor_stays_ready(
    make_settings: Callable[..., Settings], capsys: pytest.CaptureFixture[str]
) -> None:
    tried = 0

    async def counted(address: MqttAddress, topic: str) -> Sent:
        nonlocal tried
        tried += 1
        return await send_probe(address, topic)

    async def attempts() -> int:
        return tried

    timing = CheckTiming(first_silence_s=0.1, silence_s=0.1, longest_silence_s=0.1)
    session = partial(Session, check=partial(SubscriptionCheck, timing=timing, send=counted))
    rules = RULES.replace("topic write devices/devicestat-probe/stats\n", "")
    with tempfile.TemporaryDirectory(prefix="ds") as directory, PasswordFileBroker(Path(directory), rules) as broker:
        settings = broker.settings(make_settings())
        async with running_ingestor(settings, session):
            await eventually(attempts, lambda count: count >= 3)
            assert (await health(settings.ingestor_metrics_port))["status"] == "ready"
            (warned,) = (finding for finding in await examine(settings) if finding.what == "probe")
        said = capsys.readouterr().out
    assert said.count("cannot test the subscription while no messages arrive") == 1
    for text in (said, warned.text):
        assert "refuses a message to devices/devicestat-probe/stats" in text
        assert "allow it to the user of DEVICESTAT_MQTT_URL" in text
    assert warned.severity is Severity.WARNING


@pytest.mark.parametrize("document", ["many-devices", "broker-authentication"])
async def test_with_the_documented_rules_the_probe_is_taken(
    document: str, make_settings: Callable[..., Settings]
) -> None:
    session = partial(Session, check=partial(SubscriptionCheck, timing=CheckTiming(first_silence_s=0.1)))
    rules = documented(document)
    with tempfile.TemporaryDirectory(prefix="ds") as directory, PasswordFileBroker(Path(directory), rules) as broker:
        settings = broker.settings(make_settings(http_host="127.0.0.1"))
        async with running_ingestor(settings, session):
            await eventually(lambda: metrics(settings.ingestor_metrics_port), lambda seen: seen[EMPTY] >= 1)
            assert [finding for finding in await examine(settings) if finding.what == "probe"] == []


def documented(document: str) -> str:
    """Return the rules of the document in the form of Mosquitto's acl_file."""
    text = (Path(__file__).parents[2] / "docs" / f"{document}.md").read_text()
    (rules,) = re.findall(r"```\n(user devicestat-ingestor\n.*?)```", text, re.DOTALL)
    return rules.replace("user devicestat-ingestor", f"user {INGESTOR.partition(':')[0]}")


async def test_the_file_is_compared_and_repaired(
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
        assert (listed.returncode, listed.stdout.count("a different line in the password file")) == (1, 2)
        mended = await command.arun("broker", "sync", **given_of(settings))
        assert (mended.returncode, mended.stdout.count("repaired")) == (0, 2), mended.stderr
        again = await command.arun("broker", "sync", **given_of(settings))
        assert "agrees with the database" in again.stdout
        assert not await is_refused(closed.as_device("7", token))


async def test_a_redundant_row_changes_nothing(
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


async def test_a_file_that_goes_while_it_is_used_ends_no_process(
    settings: Settings, closed: PasswordFileBroker, database: Database, capsys: pytest.CaptureFixture[str]
) -> None:
    class Removing(ByFile):
        def read(self) -> PasswordFile:
            file = super().read()
            closed.file.unlink(missing_ok=True)
            return file

    await queue(database, [99], Change.REVOCATION)

    async def warned() -> bool:
        return "cannot be read (No such file or directory)" in capsys.readouterr().out

    async with telling(settings, Removing(closed.file, settings.broker, SECRET, rules_of(settings))):
        await eventually(warned, bool)
    assert await waiting(database) == 1
