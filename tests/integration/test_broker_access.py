"""Permissions on a closed broker: a real Mosquitto with dynamic security, which the outbox updates."""

import asyncio
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import aiomqtt
import msgspec
import pytest
from mqtt5 import SubAckReasonCode

from deploy.doctor import Severity, examine
from deploy.doctor.broker_connection import connected, own_client_id
from shared.access.credentials import Role
from shared.broker.dynamic_security.administration import administering
from shared.broker.dynamic_security.devices import BATCH
from shared.broker.dynamic_security.sync import ingestor_user
from shared.broker.outbox import Change, queue, target, unless_cancelled, waiting
from shared.errors import ConnectionRefused, NotAdministered, SettingsError
from shared.settings import MqttAddress, Settings, parse_mqtt_url
from tests import command, services
from tests.broker_outbox import cut_off, telling, told
from tests.closed_broker import ClosedBroker, give_token, remove
from tests.conftest import Broker, Database
from tests.credentials import key
from tests.ingestion import IngestorProcess, metrics
from tests.waiting import eventually

CUT_OFF_S = 1.0
BY_ADMINISTRATOR = "administrative action"
READING = b'{"x":1,"y":2,"z":3}'
Start = Callable[..., IngestorProcess]


@pytest.fixture
def closed() -> Iterator[ClosedBroker]:
    """A broker without devices."""
    with tempfile.TemporaryDirectory(prefix="ds") as directory, ClosedBroker(Path(directory)) as broker:
        yield broker


@pytest.fixture
def settings(closed: ClosedBroker, make_settings: Callable[..., Settings]) -> Settings:
    return closed.settings(make_settings(http_host="127.0.0.1"))


async def is_refused(address: MqttAddress, client_id: str) -> bool:
    """Return whether the broker refuses the connection."""
    try:
        async with connected(address, client_id):
            return False
    except ConnectionRefused as error:
        return error.reason == "not authorized"


async def rows(database: Database) -> int:
    row = await (await database.execute("SELECT count(*) FROM readings")).fetchone()
    assert row is not None
    return int(row[0])


def given_of(settings: Settings) -> dict[str, object]:
    """Return the settings for `devicestat broker`."""
    return {name: getattr(settings, name) for name in ("database_url", "mqtt_url", "mqtt_admin_url", "device_secret")}


async def test_a_device_may_publish_to_its_own_topic_and_nothing_else(
    closed: ClosedBroker, settings: Settings, database: Database
) -> None:
    async with telling(settings):
        token = await give_token(database, 7)
        await give_token(database, 8)
        await told(database)
    async with connected(closed.as_device(7, token), "device-7") as device:
        assert (await device.publish("devices/7/stats", READING)).accepted == 1
        for topic in ("devices/8/stats", "devices/7/stats/x", "$CONTROL/dynamic-security/v1", "devicestat/doctor/x"):
            assert (await device.publish(topic, b"{}")).words == "not authorized", topic
        for pattern in ("devices/7/stats", "devices/+/stats", "#", "$SYS/#", "$share/g/devices/+/stats", "$CONTROL/#"):
            assert (await device.subscribe(pattern)).reason_codes == [SubAckReasonCode.NOT_AUTHORIZED], pattern
    assert await is_refused(closed.as_device(7, token), "device-8")
    assert await is_refused(closed.as_device(8, token), "device-8")
    assert await is_refused(MqttAddress(host=closed.host, port=closed.port), "anonymous")


async def test_a_will_is_held_against_the_same_rules(
    closed: ClosedBroker, settings: Settings, database: Database
) -> None:
    """Mosquitto accepts a CONNECT with any will, and checks its topic when it publishes the will."""
    async with telling(settings):
        token = await give_token(database, 7)
        await told(database)
    async with connected(settings.broker, own_client_id()) as reader:
        await reader.subscribe("devices/+/stats")
        for topic in ("devices/8/stats", "devices/7/stats"):
            will = aiomqtt.Will(topic, READING, qos=1)
            device = aiomqtt.Client(
                closed.host, closed.port, username="device-7", password=token, identifier="device-7", will=will
            )
            await device.__aenter__()
            device._client.socket().close()  # without DISCONNECT
        message = await reader.message(10)
        assert message is not None
        assert message.topic == "devices/7/stats"


@pytest.mark.parametrize(
    ("topic", "arguments"),
    [("devices/+/stats", ()), ("$share/plant/devices/+/stats", ()), ("devices/+/stats", ("--processes", 2))],
)
async def test_what_a_device_publishes_is_stored(
    topic: str, arguments: tuple[object, ...], closed: ClosedBroker, make_settings: Callable[..., Settings],
    database: Database, start_ingestor: Start,
) -> None:  # fmt: skip
    settings = closed.settings(make_settings(mqtt_topic=topic))
    async with telling(settings):
        token = await give_token(database, 7)
        await told(database)
    process = start_ingestor(settings, *arguments)
    await process.until_ready()
    async with connected(closed.as_device(7, token), "device-7") as device:
        await device.publish("devices/7/stats", READING)
    await eventually(lambda: rows(database), lambda count: count == 1)
    assert (await process.end())[0] == 0


async def test_rotation_cuts_the_old_token_off(closed: ClosedBroker, settings: Settings, database: Database) -> None:
    async with telling(settings):
        old = await give_token(database, 7)
        await told(database)
        async with connected(closed.as_device(7, old), "device-7") as device:
            new = await give_token(database, 7)
            assert await cut_off(device, BY_ADMINISTRATOR) < CUT_OFF_S
        assert await is_refused(closed.as_device(7, old), "device-7")
        assert not await is_refused(closed.as_device(7, new), "device-7")


async def test_deletion_cuts_off(closed: ClosedBroker, settings: Settings, database: Database) -> None:
    async with telling(settings):
        token = await give_token(database, 7)
        await told(database)
        async with connected(closed.as_device(7, token), "device-7") as device:
            await remove(database, 7)
            assert await cut_off(device, BY_ADMINISTRATOR) < CUT_OFF_S
        assert await is_refused(closed.as_device(7, token), "device-7")


async def test_a_revocation_does_not_wait_for_new_devices(
    closed: ClosedBroker, settings: Settings, database: Database
) -> None:
    async with telling(settings):
        token = await give_token(database, 7)
        await told(database)
    async with connected(closed.as_device(7, token), "device-7") as device:
        for number in range(1_000, 2_000):
            await give_token(database, number, change=Change.REGISTRATION)
        await remove(database, 7)
        async with telling(settings):
            assert await cut_off(device, BY_ADMINISTRATOR) < CUT_OFF_S
            assert await waiting(database) > BATCH
    assert await is_refused(closed.as_device(7, token), "device-7")


async def test_a_redundant_row_disconnects_no_client(
    closed: ClosedBroker, settings: Settings, database: Database
) -> None:
    async with telling(settings):
        token = await give_token(database, 7)
        await told(database)
        async with connected(closed.as_device(7, token), "device-7") as device:
            await queue(database, [7], Change.REGISTRATION)
            await told(database)
            assert (await device.publish("devices/7/stats", READING)).accepted == 1


async def test_a_token_that_cannot_be_made_again_is_reported_and_the_old_one_revoked(
    closed: ClosedBroker, settings: Settings, database: Database, capsys: pytest.CaptureFixture[str]
) -> None:
    async with telling(settings):
        old = await give_token(database, 7)
        await told(database)
        async with connected(closed.as_device(7, old), "device-7") as device:
            await give_token(database, 7, secret=None)
            assert await cut_off(device, BY_ADMINISTRATOR) < CUT_OFF_S
        await told(database)
    assert "POST /devices/7/token" in capsys.readouterr().out
    assert await is_refused(closed.as_device(7, old), "device-7")


async def test_a_broker_that_was_down_is_updated_when_it_is_back(
    closed: ClosedBroker, settings: Settings, database: Database
) -> None:
    closed.stop()
    async with telling(settings):
        token = await give_token(database, 7)
        await give_token(database, 8)
        await remove(database, 8)
        assert await waiting(database) == 3
        closed.start()
        await told(database)
    assert not await is_refused(closed.as_device(7, token), "device-7")


async def test_api_and_worker_tell_the_broker_once(
    closed: ClosedBroker, settings: Settings, database: Database
) -> None:
    count = 40
    async with services.api(settings), services.worker(settings):
        for number in range(1, count + 1):
            await give_token(database, number)
        await told(database)
        shown = await metrics(settings.worker_metrics_port)
        assert "devicestat_broker_outbox_waiting" in shown
        assert "devicestat_broker_outbox_waiting" in await metrics(settings.http_port)
    log = closed.log.read_text()
    assert [log.count(f"createClient | username=device-{n} ") for n in range(1, count + 1)] == [1] * count


@pytest.mark.parametrize("lost", ["older", "empty"])
async def test_sync_repairs_a_broker_that_was_restored(
    lost: str, closed: ClosedBroker, settings: Settings, database: Database
) -> None:
    empty = closed.file.read_bytes()
    async with telling(settings):
        deleted = await give_token(database, 1)
        old = await give_token(database, 2)
        await told(database)
        older = closed.file.read_bytes()
        await remove(database, 1)
        rotated, newer = await give_token(database, 2), await give_token(database, 3)
        await told(database)
    closed.stop()
    closed.restore({"older": older, "empty": empty}[lost])
    closed.start()
    given = given_of(settings)
    looked = await command.arun("broker", "sync", "--dry-run", **given)
    assert looked.returncode == 1, looked.stderr
    assert "device 3: no role; no client" in looked.stdout
    assert await is_refused(closed.as_device(3, newer), "device-3")
    mended = await command.arun("broker", "sync", **given)
    assert (mended.returncode, mended.stderr) == (0, "")
    assert all(line.endswith(": repaired") for line in mended.stdout.splitlines())
    for number, token, refused in ((1, deleted, True), (2, old, True), (2, rotated, False), (3, newer, False)):
        assert await is_refused(closed.as_device(number, token), f"device-{number}") == refused, number
    again = await command.arun("broker", "sync", "--dry-run", **given)
    assert (again.returncode, again.stdout) == (0, "the broker agrees with the database\n")


async def test_sync_repairs_manual_changes(closed: ClosedBroker, settings: Settings, database: Database) -> None:
    async with telling(settings):
        token = await give_token(database, 7)
        await told(database)
    anything = [{"acltype": "publishClientSend", "topic": "#", "allow": True}]
    async with administering(settings.broker_admin) as dynsec:
        refused = await dynsec.do(
            [
                {"command": "modifyRole", "rolename": "device-7", "acls": anything},
                {"command": "setClientId", "username": "device-7", "clientid": "another"},
                {"command": "disableClient", "username": "device-7"},
                {"command": "createClient", "username": "device-9", "password": "x"},
                {"command": "deleteRole", "rolename": "devicestat-ingestor"},
                {"command": "setClientPassword", "username": "ingestor", "password": "x"},
                {"command": "setDefaultACLAccess", "acls": [{"acltype": "subscribe", "allow": True}]},
            ]
        )
        assert refused == []
    given = given_of(settings)
    findings = {one.what: one for one in await examine(settings) if one.severity is Severity.WRONG}
    assert "`devicestat broker sync` repairs them" in findings["access"].text
    mended = await command.arun("broker", "sync", **given)
    assert mended.returncode == 0, mended.stdout + mended.stderr
    assert sorted(line.split(":")[0] for line in mended.stdout.splitlines()) == [
        "client ingestor", "default access", "device 7", "device 9", "role devicestat-ingestor"
    ]  # fmt: skip
    assert not await is_refused(closed.as_device(7, token), "device-7")
    assert {one.what: one.text for one in await examine(settings) if one.severity is Severity.WRONG} == {}


async def test_the_doctor_finds_a_closed_broker_as_right_as_an_open_one(settings: Settings, database: Database) -> None:
    findings = {one.what: one for one in await examine(settings)}
    for what in ("broker", "subscription", "limits", "queue", "access", "outbox"):
        assert findings[what].severity is Severity.OK, findings[what]


@pytest.mark.parametrize("empty_file", [False, True], ids=["no file", "an empty file"])
async def test_a_broker_without_clients_is_distinguished_from_a_wrong_password(
    empty_file: bool, closed: ClosedBroker, settings: Settings, database: Database
) -> None:
    """The data directory was emptied. The doctor's advice repairs it, and devices keep their tokens."""
    token = await give_token(database, 7, tell=False)
    closed.stop()
    closed.file.unlink()
    (closed.data / "mosquitto.db").unlink()
    if empty_file:
        closed.file.touch()
    closed.makes_file = False
    closed.start()
    seen = msgspec.structs.replace(settings, broker_data_dir=str(closed.data))
    for_certain, guessed = await broker_findings(seen), await broker_findings(settings)
    assert for_certain.keys() == guessed.keys() == {"broker", "access"}
    for text in for_certain.values():
        assert f"refuses all clients, because {closed.file} is missing or empty: " in text
    for text in guessed.values():
        assert "Either both passwords are wrong, or the broker has no clients" in text
    assert all("`devicestat broker init --devices FILE`" in text for text in (*for_certain.values(), *guessed.values()))
    made = await command.arun("broker", "init", closed.file, "--devices", **given_of(settings))
    assert made.returncode == 0, made.stderr
    closed.stop()
    closed.restore(closed.file.read_bytes())
    closed.start()
    assert await broker_findings(seen) == {}
    assert not await is_refused(closed.as_device(7, token), "device-7")


async def test_one_wrong_password_is_the_password(closed: ClosedBroker, settings: Settings, database: Database) -> None:
    wrong = msgspec.structs.replace(settings, mqtt_url=f"mqtt://ingestor:wrong@{closed.host}:{closed.port}")
    assert "check user and password in DEVICESTAT_MQTT_URL" in (await broker_findings(wrong))["broker"]


async def broker_findings(settings: Settings) -> dict[str, str]:
    """Return the faults of the broker, by check."""
    findings = await examine(settings)
    wrong = [one for one in findings if one.severity is Severity.WRONG and one.what in ("broker", "access")]
    return {one.what: one.text for one in wrong}


async def test_the_doctor_looks_for_an_admin_key(settings: Settings, database: Database) -> None:
    locked = msgspec.structs.replace(settings, auth="on")
    (keys,) = [finding for finding in await examine(locked) if finding.what == "keys"]
    assert keys.severity is Severity.WARNING
    assert "devicestat keys create --role admin" in keys.text
    await key(database, Role.ADMIN)
    assert "keys" not in {finding.what for finding in await examine(locked)}


async def test_a_user_without_the_admin_role_is_reported(
    settings: Settings, broker: Broker, closed: ClosedBroker
) -> None:
    with pytest.raises(NotAdministered, match="does not let the user of DEVICESTAT_MQTT_ADMIN_URL subscribe"):
        async with administering(settings.broker):
            pass
    with pytest.raises(ConnectionRefused, match="DEVICESTAT_MQTT_ADMIN_URL"):
        async with administering(parse_mqtt_url(f"mqtt://admin:wrong@{closed.host}:{closed.port}")):
            pass


async def test_a_broker_without_the_plugin_is_reported(broker: Broker) -> None:
    with pytest.raises(NotAdministered, match=r"plugin mosquitto_dynamic_security\.so loaded"):
        async with administering(parse_mqtt_url(broker.url), first_answer_s=0.3):
            pass


async def test_a_cancel_that_the_work_swallows_is_not_lost() -> None:
    """asyncio.wait_for does so on Python 3.11."""
    ended = asyncio.Event()

    async def swallows() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            ended.set()

    telling = asyncio.create_task(unless_cancelled(swallows()))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    telling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await telling
    assert ended.is_set()


def test_the_outbox_needs_the_secret(database_url: str) -> None:
    settings = Settings(database_url=database_url, mqtt_admin_url="mqtt://a:b@localhost")
    with pytest.raises(SettingsError, match="DEVICESTAT_DEVICE_SECRET is not set"):
        target(settings)


def test_the_ingestor_takes_no_client_id_of_a_device(settings: Settings) -> None:
    ingestor_user(settings)
    with pytest.raises(SettingsError, match="DEVICESTAT_MQTT_CLIENT_ID is 'device-7', a device's client id"):
        ingestor_user(msgspec.structs.replace(settings, mqtt_client_id="device-7"))


async def test_init_writes_a_file_for_a_new_broker_with_the_devices(
    settings: Settings, database: Database, tmp_path: Path
) -> None:
    token, file = await give_token(database, 7, tell=False), tmp_path / "dynamic-security.json"
    given = given_of(settings)
    made = await command.arun("broker", "init", file, "--devices", **given)
    assert made.returncode == 0, made.stderr
    assert file.stat().st_mode & 0o777 == 0o600
    content = file.read_text()
    assert not any(secret in content + made.stdout for secret in ("the-administrator's", "the-ingestor's", token))
    refused = await command.arun("broker", "init", file, **given)
    assert refused.returncode == 1
    assert "exists, and is not overwritten" in refused.stderr
    with tempfile.TemporaryDirectory(prefix="ds") as directory:
        fresh = ClosedBroker(Path(directory))
        fresh.prepare()
        fresh.restore(content.encode())
        with fresh:
            assert not await is_refused(fresh.as_device(7, token), "device-7")
            synced = await command.arun("broker", "sync", **given_of(fresh.settings(settings)))
            assert (synced.returncode, synced.stdout) == (0, "the broker agrees with the database\n")
