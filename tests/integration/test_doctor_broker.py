"""Checks of the broker by `devicestat doctor`: each option that is too small is named, on a real Mosquitto."""

import asyncio
import json
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import aiomqtt
import pytest
import trustme

from deploy.doctor import Finding, Severity
from deploy.doctor.broker import examine_broker
from deploy.doctor.broker_connection import connected, own_client_id
from deploy.doctor.trials.queue import MESSAGES, examine_queue
from deploy.doctor.trials.redelivery import examine_redelivery
from deploy.local.mosquitto import EmbeddedMosquitto
from ingestor.session.limits import RIGHT_PACKET_SIZE
from shared.broker.names import DOCTOR_TOPICS
from shared.settings import Settings, parse_mqtt_url
from tests.command import run
from tests.conftest import Broker
from tests.ports import free_port
from tests.waiting import eventually

PLUGINS = list(Path("/usr/lib").glob("**/mosquitto_dynamic_security.so"))
CONFIGURATION = (Path(__file__).parents[2] / "mosquitto.conf").read_text()


@contextmanager
def mosquitto(options: dict[str, str], files: dict[str, str] | None = None) -> Iterator[EmbeddedMosquitto]:
    """Run a broker with these options; DIRECTORY in them is the directory of the files."""
    with tempfile.TemporaryDirectory(prefix="ds") as name:
        directory = Path(name)
        directory.chmod(0o755)
        for file, content in (files or {}).items():
            (directory / file).write_text(content)
            (directory / file).chmod(0o644)
        placed = {option: value.replace("DIRECTORY", name) for option, value in options.items()}
        with EmbeddedMosquitto(directory, free_port(), placed) as broker:
            yield broker


async def found(
    broker: EmbeddedMosquitto | Broker, *, messages: int = MESSAGES, **changes: object
) -> dict[str, Finding]:
    """Return the doctor's findings by check, without the waiting messages, which some brokers do not count."""
    findings = await examine_broker(Settings(mqtt_url=broker.url, **changes), messages)  # type: ignore[arg-type]
    return {finding.what: finding for finding in findings if finding.what != "waiting"}


def wrong(findings: dict[str, Finding]) -> list[str]:
    return [what for what, finding in findings.items() if finding.severity is Severity.WRONG]


# Limits that are too small


async def test_our_configuration_is_large_enough(broker: Broker) -> None:
    findings = await found(broker)
    assert {what: finding.severity for what, finding in findings.items()} == dict.fromkeys(
        ("broker", "subscription", "limits", "redelivery", "queue"), Severity.OK
    )
    assert findings["queue"].text == "the broker queues at least 10,000 messages for an offline ingestor"
    assert findings["limits"].text.startswith("a payload of 2,097,152 bytes, ")


@pytest.mark.parametrize(
    ("options", "what", "text"),
    [
        ({"max_packet_size": "1000000"}, "limits", "the broker accepts packets of up to 1000000 bytes, "),
        ({"message_size_limit": "1000000"}, "limits", "If message_size_limit is in the broker's configuration"),
        ({"max_queued_messages": "1000"}, "queue", "max_queued_messages of the broker is too small: of 10,000 "),
        ({"max_queued_bytes": "500000"}, "queue", "max_queued_bytes of the broker is too small: of 10,000 "),
    ],
)
async def test_a_setting_that_is_too_small_is_named(options: dict[str, str], what: str, text: str) -> None:
    with mosquitto(options) as small:
        findings = await found(small)
    assert wrong(findings) == [what]
    assert text in findings[what].text
    named = {name for name in ("max_packet_size", "max_queued_messages", "max_queued_bytes") if name in str(findings)}
    assert named <= options.keys()


async def test_mosquitto_redelivers_exactly(broker: Broker) -> None:
    (finding,) = await examine_redelivery(parse_mqtt_url(broker.url))
    assert finding == Finding(
        Severity.OK,
        "redelivery",
        "exactly once: the broker redelivers with the same packet ids, in the order sent, with DUP set; it assigns "
        "packet ids in sequence",
    )


async def test_a_small_window_is_reported() -> None:
    with mosquitto({"max_inflight_messages": "5"}) as narrow:
        (finding,) = await examine_redelivery(parse_mqtt_url(narrow.url))
    assert finding.severity is Severity.OK
    assert "it sends 5 messages before it waits for an acknowledgement" in finding.text


async def test_the_options_of_mosquitto_are_not_named_to_another_broker() -> None:
    with mosquitto({"max_queued_messages": "1000"}) as small:
        findings = await examine_queue(parse_mqtt_url(small.url), is_mosquitto=False)
    (finding,) = findings
    assert finding.severity is Severity.WRONG
    assert finding.text == (
        "of 10,000 messages for an offline client the broker kept 1,000 and dropped the others: raise its limit "
        "on the queue of a client"
    )


async def test_what_was_kept_is_counted() -> None:
    with mosquitto({"max_queued_messages": "1000"}) as small:  # Mosquitto's default
        (finding,) = await examine_queue(parse_mqtt_url(small.url), is_mosquitto=True)
    assert finding.text == (
        "max_queued_messages of the broker is too small: of 10,000 messages for an offline client it kept 1,000 "
        "and dropped the others. Set max_queued_messages 10000000, as in mosquitto.conf"
    )


async def test_both_limits_of_the_queue_are_distinguished() -> None:
    with mosquitto({"max_queued_messages": "2000", "max_queued_bytes": "100000"}) as small:
        findings = await examine_queue(parse_mqtt_url(small.url), is_mosquitto=True)
    messages, size = (finding.text for finding in findings)
    assert messages.startswith("max_queued_messages")
    assert "kept 2,000 " in messages
    assert size.startswith("max_queued_bytes")
    assert "of 10,000 messages of 100 bytes for an offline client it kept 1,000 " in size


def test_too_small_a_setting_is_the_doctors_exit_code(database_url: str) -> None:
    with mosquitto({"max_queued_messages": "1000"}) as small:
        result = run("doctor", database_url=database_url, mqtt_url=small.url, ingestor_metrics_port=0)
    assert result.returncode == 1
    assert [line.split()[1] for line in result.stdout.splitlines() if line.startswith("wrong")] == ["queue"]


async def test_a_broker_without_qos_1() -> None:
    with mosquitto({"max_qos": "0"}) as careless:
        findings = await found(careless)
    assert wrong(findings) == ["subscription", "limits"]
    assert "the broker supports QoS 0 only" in findings["limits"].text
    assert "remove max_qos from" in findings["limits"].text
    assert "grants only QoS 0 on devices/+/stats" in findings["subscription"].text
    assert "queue" not in findings


async def test_a_broker_on_a_slow_way_is_not_blamed(broker: Broker) -> None:
    """If the messages cannot be published in time, the finding says so."""
    (finding,) = await examine_queue(parse_mqtt_url(broker.url), is_mosquitto=True, within_s=0.02)
    assert finding.severity is Severity.WARNING
    assert "no more could be published in 0.02 s" in finding.text


def test_the_advice_is_what_our_configuration_has() -> None:
    lines = CONFIGURATION.splitlines()
    for line in (f"max_packet_size {RIGHT_PACKET_SIZE}", "max_queued_messages 10000000", "max_queued_bytes 2000000000"):
        assert line in lines


# The doctor leaves nothing behind


def client_ids(broker: EmbeddedMosquitto) -> set[str]:
    """Return the client ids of the doctor in the broker's log."""
    return set(re.findall(r" as (devicestat-doctor-\w+)", broker.log.read_text()))


async def left_behind(broker: EmbeddedMosquitto) -> list[str]:
    """Return the client ids of the doctor for which the broker has a session."""
    sessions = []
    for client_id in client_ids(broker):
        async with connected(parse_mqtt_url(broker.url), client_id, clean_start=False) as connection:
            sessions += [client_id] * connection.connack.session_present
    return sessions


async def test_the_probe_leaves_nothing_in_the_broker(own_broker: EmbeddedMosquitto) -> None:
    await examine_queue(parse_mqtt_url(own_broker.url), is_mosquitto=True)
    assert len(client_ids(own_broker)) == 2
    assert await left_behind(own_broker) == []
    async with connected(parse_mqtt_url(own_broker.url), own_client_id()) as connection:
        await connection.subscribe(DOCTOR_TOPICS, retained=True)
        assert await connection.message(0.2) is None


async def test_the_trial_of_redelivery_leaves_nothing_either(own_broker: EmbeddedMosquitto) -> None:
    await examine_redelivery(parse_mqtt_url(own_broker.url))
    assert len(client_ids(own_broker)) == 2
    assert await left_behind(own_broker) == []


async def test_a_probe_that_is_interrupted_leaves_nothing_either(own_broker: EmbeddedMosquitto) -> None:
    address = parse_mqtt_url(own_broker.url)
    async with connected(address, own_client_id()) as watching:
        await watching.subscribe(DOCTOR_TOPICS)
        probing = asyncio.create_task(examine_queue(address, is_mosquitto=True), name="probe")
        for _ in range(MESSAGES // 10):
            assert await watching.message(5) is not None
        probing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await probing
    assert len(client_ids(own_broker)) == 3
    assert await left_behind(own_broker) == []


async def test_the_probe_publishes_to_no_device(broker: Broker) -> None:
    async with connected(parse_mqtt_url(broker.url), own_client_id()) as watching:
        await watching.subscribe("devices/#", "+")
        await found(broker)
        assert await watching.message(0.2) is None


# Grants of the broker


async def test_the_subscription_of_a_group_takes_no_share(broker: Broker) -> None:
    findings = await found(broker, mqtt_topic="$share/ingestors/devices/+/stats")
    assert findings["subscription"] == Finding(Severity.OK, "subscription", "devices/+/stats at QoS 1")


async def test_a_broker_on_a_unix_socket() -> None:
    with mosquitto({"protocol": "mqtt\nlistener 0 DIRECTORY/data/socket"}) as local:
        settings = Settings(mqtt_url=f"mqtt+unix://{local.data}/socket")

        async def listens() -> bool:
            return (local.data / "socket").exists()

        await eventually(listens, bool)  # the other listener is open first
        assert {finding.severity for finding in await examine_broker(settings)} == {Severity.OK}
    (finding,) = await examine_broker(settings)
    assert (finding.severity, finding.what) == (Severity.WRONG, "broker")
    assert f"no connection at unix socket {local.data}/socket" in finding.text


async def test_a_broker_over_tls(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    ca, port = trustme.CA(), free_port()
    issued, authority = ca.issue_cert("localhost"), tmp_path / "ca.pem"
    ca.cert_pem.write_to_path(authority)
    files = {
        "key.pem": issued.private_key_pem.bytes().decode(),
        "cert.pem": issued.cert_chain_pems[0].bytes().decode(),
    }
    listener = f"{port} 127.0.0.1\nkeyfile DIRECTORY/key.pem\ncertfile DIRECTORY/cert.pem"
    settings = Settings(mqtt_url=f"mqtts://localhost:{port}")
    with mosquitto({"protocol": f"mqtt\nlistener {listener}"}, files):
        (refused,) = await examine_broker(settings)
        monkeypatch.setenv("SSL_CERT_FILE", str(authority))
        assert {finding.severity for finding in await examine_broker(settings)} == {Severity.OK}
    assert (refused.severity, refused.what) == (Severity.WRONG, "broker")
    assert "its certificate is not trusted" in refused.text


async def test_a_broker_that_does_not_know_us() -> None:
    with mosquitto({"allow_anonymous": "false"}) as strict:
        findings = await found(strict)
    assert wrong(findings) == ["broker"]
    assert "refuses the connection: not authorized" in findings["broker"].text


async def test_a_server_that_speaks_something_else() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n" * 10)
        writer.close()

    async with await asyncio.start_server(talk, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        findings = await found(Broker("127.0.0.1", port))
    assert wrong(findings) == ["broker"]
    assert f"the broker at 127.0.0.1:{port}" in findings["broker"].text
    assert "MQTT 5" in findings["broker"].text


@pytest.mark.skipif(not PLUGINS, reason="needs Mosquitto's dynamic security plugin, which Debian's package has")
async def test_a_subscription_that_access_control_forbids() -> None:
    rules = {"publishClientSend": True, "publishClientReceive": True, "subscribe": False, "unsubscribe": True}
    options = {"plugin": str(PLUGINS[0]), "plugin_opt_config_file": "DIRECTORY/rules.json"}
    with mosquitto(options, {"rules.json": json.dumps({"defaultACLAccess": rules})}) as strict:
        findings = await found(strict)
    assert wrong(findings) == ["subscription"]
    assert "refuses the subscription to devices/+/stats: not authorized" in findings["subscription"].text
    assert findings["queue"].severity is Severity.WARNING
    assert "refuses the subscription to devicestat/doctor/" in findings["queue"].text


@pytest.mark.parametrize(
    ("rules", "why"),
    [
        ("topic read devices/#\n", r"it refuses a message to devicestat/doctor/.* (not authorized)"),
        ("topic read devices/#\ntopic write devicestat/#\n", "and does not deliver it"),
    ],
)
async def test_a_probe_that_access_control_forbids_cannot_tell(rules: str, why: str) -> None:
    with mosquitto({"acl_file": "DIRECTORY/acl", "max_queued_messages": "10"}, {"acl": rules}) as strict:
        findings = await found(strict)
    assert wrong(findings) == []
    assert findings["queue"].severity is Severity.WARNING
    said = findings["queue"].text
    assert said.startswith("cannot test how many messages the broker queues: ")
    assert all(part in said for part in why.split(".*"))
    redelivery = findings["redelivery"]
    assert redelivery.severity is Severity.WARNING
    assert redelivery.text.startswith("cannot test how the broker redelivers unacknowledged messages: ")
    assert "allow devicestat/doctor/#" in said


# Waiting and dropped messages


async def stay_away(broker: EmbeddedMosquitto, payload: bytes, count: int) -> None:
    """Publish `count` messages while a persistent session is offline."""
    kept = aiomqtt.Client(broker.host, broker.port, identifier="kept", clean_session=False)
    async with kept:
        await kept.subscribe("devices/+/stats", qos=1)
    async with aiomqtt.Client(broker.host, broker.port) as client:
        for _ in range(count):
            await client.publish("devices/1/stats", payload, qos=1)


async def test_the_messages_that_wait_are_reported() -> None:
    with mosquitto({"sys_interval": "1"}) as busy:
        await stay_away(busy, b"{}", 200)

        async def waiting() -> Finding | None:
            findings = await examine_broker(Settings(mqtt_url=busy.url, mqtt_window=100), messages=1)
            return next((finding for finding in findings if finding.what == "waiting"), None)

        def is_all(finding: Finding | None) -> bool:
            """Return whether all are counted: the broker counts once a second."""
            return (
                finding is not None
                and finding.severity is Severity.WARNING
                and 150 < int(finding.text.split()[1]) < 250
            )

        told = await eventually(waiting, is_all)
    assert told is not None
    assert "in the broker, for all of its clients: is the ingestor running and fast enough?" in told.text
    assert "bytes)" in told.text


async def test_a_broker_that_has_dropped_messages() -> None:
    """The queue is large enough for the probe. The messages that it dropped before are a warning."""
    with mosquitto({"max_queued_messages": "20", "sys_interval": "1"}) as small:
        await stay_away(small, b"{}", 100)
        findings = await eventually(lambda: found(small, messages=10), lambda findings: "dropped" in findings)
    assert findings["dropped"].severity is Severity.WARNING
    assert "dropped 80 acknowledged messages" in findings["dropped"].text
    assert "raise max_queued_messages" in findings["dropped"].text
    assert wrong(findings) == []
