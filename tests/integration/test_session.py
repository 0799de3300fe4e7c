"""The session: its connections to a broker, and its errors when the broker refuses it."""

import asyncio
import signal
import subprocess
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from pathlib import Path

import mqtt5
import pytest
import trustme
from mqtt5 import (
    ConnAckPacket,
    ConnectPacket,
    SubAckPacket,
    SubAckReasonCode,
    SubscribePacket,
    UnsubAckPacket,
    UnsubAckReasonCode,
    UnsubscribePacket,
)

from deploy.local.mosquitto import EmbeddedMosquitto
from ingestor.session.session import CUT_OFF
from shared.settings import Settings
from tests.conftest import Broker, Database
from tests.ingestion import IngestorProcess
from tests.ports import free_port
from tests.proxy import Link, Proxy, Streams, running
from tests.publisher import Message, publish
from tests.waiting import HANG_S, eventually

Start = Callable[..., IngestorProcess]
READING = Message(b'{"x":1,"y":2,"z":3}')


@pytest.fixture
def directory() -> Iterator[Path]:
    """A directory with a path that is short enough for a socket."""
    with tempfile.TemporaryDirectory(prefix="ds") as path:
        yield Path(path)


async def expect_a_row(database: Database) -> None:
    async def count() -> int:
        row = await (await database.execute("SELECT count(*) FROM readings")).fetchone()
        assert row is not None
        return int(row[0])

    await eventually(count, lambda rows: rows == 1)


async def expect_ingestion(process: IngestorProcess, plain_port: int, database: Database) -> None:
    """Check that the ingestor stores a message that is published on the plain port."""
    await database.execute("INSERT INTO devices (id, key, name) VALUES (1, '1', 'press')")
    await process.until_ready()
    await publish("127.0.0.1", plain_port, READING)
    await expect_a_row(database)
    code, logged = await process.end()
    assert code == 0, logged


async def test_over_a_unix_socket(
    directory: Path, make_settings: Callable[..., Settings], database: Database, start_ingestor: Start
) -> None:
    port, socket = free_port(), directory / "data" / "mqtt.sock"
    with EmbeddedMosquitto(directory, port, {"listener": f"{port} 127.0.0.1\nlistener 0 {socket}"}):
        await expect_ingestion(start_ingestor(make_settings(mqtt_url=f"mqtt+unix://{socket}")), port, database)


@pytest.fixture
def tls(directory: Path) -> Iterator[tuple[int, int, Path]]:
    """A broker with TLS: its plain port, its TLS port, and the certificate of the CA."""
    ca, port, tls_port = trustme.CA(), free_port(), free_port()
    issued = ca.issue_cert("localhost")
    key, certificate, authority = (directory / name for name in ("key.pem", "cert.pem", "ca.pem"))
    issued.private_key_pem.write_to_path(key)
    issued.cert_chain_pems[0].write_to_path(certificate)
    ca.cert_pem.write_to_path(authority)
    for file in (key, certificate):
        file.chmod(0o644)  # Mosquitto may run as another user
    listeners = f"{port} 127.0.0.1\nlistener {tls_port} 127.0.0.1\nkeyfile {key}\ncertfile {certificate}"
    with EmbeddedMosquitto(directory, port, {"listener": listeners}):
        yield port, tls_port, authority


async def test_over_tls(
    tls: tuple[int, int, Path], make_settings: Callable[..., Settings], database: Database, start_ingestor: Start
) -> None:
    port, tls_port, authority = tls
    settings = make_settings(mqtt_url=f"mqtts://localhost:{tls_port}")
    await expect_ingestion(start_ingestor(settings, SSL_CERT_FILE=str(authority)), port, database)


async def test_a_certificate_that_is_not_trusted_is_reported(
    tls: tuple[int, int, Path], make_settings: Callable[..., Settings], start_ingestor: Start
) -> None:
    _, tls_port, _ = tls
    settings = make_settings(mqtt_url=f"mqtts://localhost:{tls_port}")
    await expect_refusal(start_ingestor(settings), "its certificate is not trusted")


async def expect_refusal(process: IngestorProcess, *words: str) -> None:
    """Check that the ingestor exits with code 1, and logs the reason in one line without the password."""
    code, logged = await process.ended()
    assert code == 1
    (line,) = [line for line in logged.splitlines() if line.startswith("devicestat: ")]
    assert all(word in line for word in words), line
    assert "Traceback" not in logged
    assert "hunter2" not in logged


@pytest.fixture
def guarded(directory: Path) -> Iterator[EmbeddedMosquitto]:
    """A broker with two users, of which only `reader` may subscribe."""
    passwords, rules = directory / "passwords", directory / "acl"
    passwords.touch()
    for user in ("reader", "stranger"):
        subprocess.run(["mosquitto_passwd", "-b", passwords, user, "hunter2"], check=True, capture_output=True)
    rules.write_text("user reader\ntopic read devices/#\n")
    for file in (passwords, rules):
        file.chmod(0o644)
    options = {"allow_anonymous": "false", "password_file": str(passwords), "acl_file": str(rules)}
    with EmbeddedMosquitto(directory, free_port(), options) as broker:
        yield broker


async def test_a_wrong_password_is_reported(
    guarded: EmbeddedMosquitto, make_settings: Callable[..., Settings], start_ingestor: Start
) -> None:
    url = f"mqtt://reader:not-hunter2@{guarded.host}:{guarded.port}"
    await expect_refusal(
        start_ingestor(make_settings(mqtt_url=url)), "refuses the connection: not authorized", "check user and password"
    )


async def test_the_right_password_is_taken(
    guarded: EmbeddedMosquitto, make_settings: Callable[..., Settings], start_ingestor: Start
) -> None:
    process = start_ingestor(make_settings(mqtt_url=f"mqtt://reader:hunter2@{guarded.host}:{guarded.port}"))
    await process.until_ready()
    code, logged = await process.end(signal.SIGINT)
    assert code == 0, logged
    assert "hunter2" not in logged


async def test_no_broker_is_reported(make_settings: Callable[..., Settings], start_ingestor: Start) -> None:
    port = free_port()
    settings = make_settings(mqtt_url=f"mqtt://user:hunter2@127.0.0.1:{port}", start_timeout="1s")
    await expect_refusal(
        start_ingestor(settings), f"no connection to the MQTT broker at 127.0.0.1:{port}", "DEVICESTAT_MQTT_URL"
    )


class CutsTheFirst(Proxy):
    """Resets a number of connections before the server receives a packet of the client."""

    def __init__(self, open_server: Callable[[], Awaitable[Streams]], count: int) -> None:
        super().__init__(open_server)
        self._count = count

    async def client_sends(self, link: Link, data: bytes) -> None:
        if self.connections <= self._count:
            link.reset()
        else:
            await super().client_sends(link, data)


@pytest.mark.parametrize("cut", [CUT_OFF, CUT_OFF + 1])
async def test_few_first_connections_may_end_before_the_broker_has_answered(
    cut: int, make_settings: Callable[..., Settings], broker: Broker, start_ingestor: Start
) -> None:
    async with running(CutsTheFirst(lambda: asyncio.open_connection(broker.host, broker.port), cut)) as proxy:
        process = start_ingestor(make_settings(mqtt_url=f"mqtt://127.0.0.1:{proxy.port}"))
        if cut > CUT_OFF:
            await expect_refusal(process, f"the connection to the MQTT broker at 127.0.0.1:{proxy.port} broke")
        else:
            await process.until_ready()
            assert (await process.end())[0] == 0


async def test_a_signal_before_the_broker_has_answered_is_a_clean_end(
    make_settings: Callable[..., Settings], start_ingestor: Start
) -> None:
    asked = asyncio.Event()

    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        asked.set()
        await reader.read()
        writer.close()

    async with await asyncio.start_server(say_nothing, "127.0.0.1", 0) as mute:
        port = mute.sockets[0].getsockname()[1]
        process = start_ingestor(make_settings(mqtt_url=f"mqtt://127.0.0.1:{port}"))
        await asked.wait()
        code, logged = await process.end()
    assert code == 0, logged


async def test_a_database_that_grants_too_little_is_reported(
    make_settings: Callable[..., Settings], database: Database, start_ingestor: Start
) -> None:
    await database.execute("REVOKE ALL ON schema_migrations FROM devicestat_ingestor")
    process = start_ingestor(make_settings())
    await expect_refusal(process, "permission denied for table schema_migrations", "devicestat migrate --roles")


async def test_a_subscription_that_is_refused_leaves_the_earlier_one_in_place(
    make_settings: Callable[..., Settings], start_ingestor: Start
) -> None:
    """Otherwise the broker would drop all messages until an operator has corrected the fault."""
    asked: list[list[str]] = []
    over = asyncio.Event()

    def answer(packet: mqtt5.Packet) -> bytes:
        match packet:
            case ConnectPacket():
                return ConnAckPacket(session_present=True).write()
            case SubscribePacket():
                asked.append([topic_filter.pattern for topic_filter in packet.topic_filters])
                return SubAckPacket(packet.packet_id, [SubAckReasonCode.NOT_AUTHORIZED]).write()
            case UnsubscribePacket():
                return UnsubAckPacket(packet.packet_id, [UnsubAckReasonCode.SUCCESS]).write()
        return b""

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        unread = b""
        with suppress(ConnectionError):  # the ingestor has ended
            while data := await reader.read(1024):
                unread += data
                while unread:
                    packet, size = mqtt5.read(unread)
                    unread = unread[size:]
                    writer.write(answer(packet))
        writer.close()
        over.set()

    async with await asyncio.start_server(refuse, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        topic = "$share/plant/devices/+/stats"
        process = start_ingestor(make_settings(mqtt_url=f"mqtt://127.0.0.1:{port}", mqtt_topic=topic))
        await expect_refusal(process, f"refuses the subscription to {topic}")
        async with asyncio.timeout(HANG_S):
            await over.wait()
    assert asked == [[topic], [topic], ["devices/+/stats"]]
