"""TLS to the broker: a private authority, a client certificate, and the errors if either is wrong."""

import datetime
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
import trustme

from deploy.doctor.broker_connection import connected, own_client_id
from deploy.local.mosquitto import EmbeddedMosquitto
from shared.broker.client import mqtt_client
from shared.broker.tls import client_context
from shared.errors import BrokerUnreachable, SettingsError
from shared.settings import Settings, TlsFiles
from tests.ingestion import IngestorProcess, metrics
from tests.ports import free_port
from tests.waiting import eventually

YESTERDAY = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)


class Certificates:
    """Files of an authority and its certificates."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.authority = trustme.CA()
        self.ca = self._written("ca.pem", self.authority.cert_pem)
        self.other_ca = self._written("other-ca.pem", trustme.CA().cert_pem)
        self.cert, self.key = self.issue("ours", "ingestor")
        self.tls = TlsFiles(ca=self.ca, cert=self.cert, key=self.key)

    def issue(self, name: str, identity: str, **options: datetime.datetime) -> tuple[str, str]:
        """Return the paths of a certificate and its key."""
        issued = self.authority.issue_cert(identity, **options)
        return (
            self._written(f"{name}.pem", issued.cert_chain_pems[0]),
            self._written(f"{name}-key.pem", issued.private_key_pem),
        )

    def _written(self, name: str, blob: trustme.Blob) -> str:
        path = self.directory / name
        blob.write_to_path(path)
        path.chmod(0o644)  # Mosquitto may run as another user
        return str(path)


@pytest.fixture
def certificates() -> Iterator[Certificates]:
    with tempfile.TemporaryDirectory(prefix="ds") as name:
        Path(name).chmod(0o755)
        yield Certificates(Path(name))


@pytest.fixture
def listen(certificates: Certificates) -> Iterator[Callable[..., str]]:
    """Function that starts a broker with TLS, which requires client certificates, and returns its URL."""
    started: list[EmbeddedMosquitto] = []

    def start(identity: str = "localhost", **options: datetime.datetime) -> str:
        cert, key = certificates.issue("broker", identity, **options)
        port = free_port()
        listener = (
            f"{port} 127.0.0.1\nkeyfile {key}\ncertfile {cert}\ncafile {certificates.ca}\nrequire_certificate true"
        )
        started.append(EmbeddedMosquitto(certificates.directory / "broker", port, {"listener": listener}))
        started[-1].start()
        return f"mqtts://localhost:{port}"

    yield start
    for broker in started:
        broker.stop()


def with_files(settings: Settings, tls: TlsFiles) -> Settings:
    return msgspec.structs.replace(settings, mqtt_tls_ca=tls.ca, mqtt_tls_cert=tls.cert, mqtt_tls_key=tls.key)


async def test_with_a_private_authority_and_a_certificate_of_ours(
    listen: Callable[..., str], certificates: Certificates, make_settings: Callable[..., Settings],
    start_ingestor: Callable[..., IngestorProcess],
) -> None:  # fmt: skip
    settings = with_files(make_settings(mqtt_url=listen()), certificates.tls)
    async with connected(settings.broker, own_client_id()):
        pass
    async with mqtt_client(settings.broker, "test"):
        pass
    process = start_ingestor(settings)
    await process.until_ready()

    async def shown() -> set[str]:
        return set(await metrics(process.port))

    await eventually(shown, lambda names: "devicestat_broker_messages_waiting" in names)  # of another connection
    assert (await process.end())[0] == 0


@pytest.mark.parametrize(
    ("identity", "options", "files", "said"),
    [
        ("localhost", {}, {"ca": "other_ca"}, "its certificate is not trusted"),
        ("localhost", {}, {"cert": None, "key": None}, "set DEVICESTAT_MQTT_TLS_CERT and DEVICESTAT_MQTT_TLS_KEY"),
        ("elsewhere.example", {}, {}, "not valid for 'localhost'"),
        ("localhost", {"not_after": YESTERDAY}, {}, "certificate has expired"),
    ],
)
async def test_what_is_wrong_is_reported(
    identity: str, options: dict[str, datetime.datetime], files: dict[str, str | None], said: str,
    listen: Callable[..., str], certificates: Certificates, make_settings: Callable[..., Settings],
    start_ingestor: Callable[..., IngestorProcess],
) -> None:  # fmt: skip
    chosen = {part: name and getattr(certificates, name) for part, name in files.items()}
    tls = msgspec.structs.replace(certificates.tls, **chosen)
    settings = with_files(make_settings(mqtt_url=listen(identity, **options)), tls)
    with pytest.raises(BrokerUnreachable) as refused:
        async with connected(settings.broker, own_client_id()):
            pass
    assert said in str(refused.value)
    if files.get("cert", "") is not None:  # with TLS 1.3 the broker may refuse only after the first packets
        code, logged = await start_ingestor(settings).ended()
        assert (code, said in logged) == (1, True), logged


def test_files_that_cannot_be_used_are_named(certificates: Certificates, tmp_path: Path) -> None:
    nothing, missing = tmp_path / "nothing.pem", tmp_path / "missing.pem"
    nothing.write_text("no PEM")
    other_cert, other_key = certificates.issue("other", "other")
    for files, said in (
        (TlsFiles(ca=str(missing)), f"MQTT_TLS_CA is {missing}, which cannot be read: No such file"),
        (TlsFiles(ca=str(nothing)), f"MQTT_TLS_CA is {nothing}, in which there is no certificate"),
        (TlsFiles(cert=str(nothing), key=other_key), f"MQTT_TLS_CERT is {nothing}, in which there is no certificate"),
        (TlsFiles(cert=other_cert, key=str(nothing)), f"MQTT_TLS_KEY is {nothing}, in which there is no private key"),
        (TlsFiles(cert=other_cert, key=certificates.key), "whose key is not that of the certificate"),
        (TlsFiles(cert=other_cert), "MQTT_TLS_KEY is not set"),
        (TlsFiles(key=other_key), "MQTT_TLS_KEY is set and DEVICESTAT_MQTT_TLS_CERT is not"),
    ):
        with pytest.raises(SettingsError) as refused:
            client_context(files)
        assert said in str(refused.value)
