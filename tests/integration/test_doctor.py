"""`devicestat doctor`: each fault is found, with advice. test_doctor_broker tests the checks of the broker."""

import asyncio
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit, urlunsplit

import msgspec
import psycopg
import pytest

from deploy.doctor import Finding, Severity
from deploy.doctor.ingestor import examine_ingestor
from deploy.local.mosquitto import EmbeddedMosquitto
from shared.readings.model import Reason
from shared.settings import Settings
from shared.status.database import months_and_locks
from shared.status.words import ago
from tests import citus, services
from tests.command import arun, run
from tests.conftest import Broker, Database
from tests.ingestion import IngestorProcess, running_ingestor, until_not_ready
from tests.letters import keep, letter
from tests.ports import free_port
from tests.publisher import Message, publish
from tests.waiting import eventually

Make = Callable[..., Settings]
DATABASE = (
    "database",
    "schema",
    "partitions",
    "processes",
    "last commit",
    "dead letters",
    "sealing",
    "late readings",
    "blocks",
    *(("distributed",) if citus.WORKERS else ()),
)
BROKER = ("broker", "subscription", "limits", "redelivery", "queue")
ALL = ("settings", *DATABASE, *BROKER, "ingestor")
ALONE = {"ingestor_metrics_port": 0}
"""Settings without an ingestor to check."""
READING = Message(b'{"x":1,"y":2,"z":3}')


def lines(stdout: str) -> list[Finding]:
    """Parse the output. All texts begin in one column."""
    shown = stdout.splitlines()
    assert all(line[8] == line[24] == " " != line[25] for line in shown), stdout
    return [Finding(Severity(line[:8].rstrip()), line[9:24].rstrip(), line[25:]) for line in shown]


def findings(stdout: str) -> dict[str, str]:
    """Return the severity of each check.

    Leaves out the messages that wait in the broker, which some brokers do not count, and settings of the tests' server.
    """
    found = (finding for finding in lines(stdout) if finding.what != "waiting")
    return {f.what: f.severity.value for f in found if f.what != "durability"}


def texts(stdout: str, what: str) -> list[str]:
    return [finding.text for finding in lines(stdout) if finding.what == what]


def only(found: list[Finding], what: str) -> Finding:
    (finding,) = (finding for finding in found if finding.what == what)
    return finding


def given(settings: Settings) -> dict[str, object]:
    """Return the settings as environment variables."""
    names = ("database_url", "mqtt_url", "mqtt_client_id", "ingestor_metrics_port")
    return {name: getattr(settings, name) for name in names}


async def test_all_is_well(make_settings: Make, broker: Broker, database: Database) -> None:
    await database.execute("INSERT INTO devices (key, name) VALUES ('1', '1')")
    settings = make_settings()
    async with running_ingestor(settings):
        await publish(broker.host, broker.port, READING)
        result = await arun("doctor", **given(settings))
    assert (result.returncode, result.stderr) == (0, "")
    assert findings(result.stdout) == dict.fromkeys((*ALL, "lag"), "ok")
    assert "PostgreSQL" in texts(result.stdout, "database")[0]
    assert "mosquitto version" in texts(result.stdout, "broker")[0]
    assert texts(result.stdout, "ingestor") == [f"ready at http://127.0.0.1:{settings.ingestor_metrics_port}"]
    (commit,) = texts(result.stdout, "last commit")
    assert re.fullmatch(rf"\d+ seconds? ago by {settings.mqtt_client_id}", commit)
    assert texts(result.stdout, "dead letters") == ["none"]


def test_wrong_settings_are_all_named() -> None:
    result = run("doctor", mqtt_url="http://x", batch_max_readings=0, mqtt_windw=5)
    assert result.returncode == 1
    for name in ("DATABASE_URL is not set", "MQTT_URL", "BATCH_MAX_READINGS", "did you mean DEVICESTAT_MQTT_WINDOW"):
        assert name in result.stdout
    assert "`devicestat up` prints an export line" in result.stdout
    assert all(line.startswith("wrong    settings") for line in result.stdout.splitlines())


def test_no_server_responds() -> None:
    port, metrics_port = free_port(), free_port()
    result = run(
        "doctor",
        database_url=f"postgresql://u:secret@127.0.0.1:{port}/d",
        mqtt_url=f"mqtt://127.0.0.1:{port}",
        ingestor_metrics_port=metrics_port,
    )
    assert result.returncode == 1
    expected = {"settings": "ok", "database": "wrong", "broker": "wrong", "ingestor": "warning"}
    assert findings(result.stdout) == expected
    assert result.stdout.count(f"127.0.0.1:{port}") >= 2
    assert f"http://127.0.0.1:{metrics_port}" in result.stdout
    assert "secret" not in result.stdout
    assert len(result.stdout.splitlines()) == 4


# The database


def test_a_database_without_a_schema(empty_database_url: str, broker: Broker) -> None:
    result = run("doctor", database_url=empty_database_url, mqtt_url=broker.url, **ALONE)
    assert result.returncode == 1
    assert findings(result.stdout)["schema"] == "wrong"
    assert "run `devicestat migrate`" in result.stdout
    assert not {"last commit", "dead letters"} & findings(result.stdout).keys()


def test_a_month_without_a_partition(database_url: str, broker: Broker) -> None:
    with psycopg.connect(database_url, autocommit=True) as connection:
        row = connection.execute("SELECT to_char(now() + interval '1 month', 'YYYY_MM')").fetchone()
        assert row is not None
        connection.execute(f"DROP TABLE readings_{row[0]}".encode())
    result = run("doctor", database_url=database_url, mqtt_url=broker.url, **ALONE)
    assert result.returncode == 1
    assert findings(result.stdout)["partitions"] == "wrong"
    assert f"none for {row[0].replace('_', '-')}" in result.stdout


def test_more_months_than_a_device_with_a_right_clock_makes(database_url: str, broker: Broker) -> None:
    made = "SELECT ensure_readings_partition(timestamptz '1980-01-01' + make_interval(months => n))"
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(f"{made} FROM generate_series(1, 210) AS n".encode())
    result = run("doctor", database_url=database_url, mqtt_url=broker.url, **ALONE)
    assert findings(result.stdout)["partitions"] == "warning"
    assert "months: lower OLDEST or set RETENTION" in result.stdout
    assert "locks" not in findings(result.stdout)  # the tests' server has 256


def test_too_few_locks_for_the_months_there_are() -> None:
    """PostgreSQL's defaults suffice for ten years, but not on a server with few connections."""
    assert months_and_locks(months=125, locks=64, transactions=100) == []
    assert months_and_locks(months=700, locks=512, transactions=100)[0].what == "partitions"
    (finding,) = months_and_locks(months=125, locks=64, transactions=20)
    assert (finding.severity, finding.what) == (Severity.WARNING, "locks")
    assert "max_locks_per_transaction is 64, too small for 125 months: set it to 256" in finding.text


def test_a_database_that_forgets(database_url: str, broker: Broker) -> None:
    """The tests' server runs without fsync. A setting that a connection can change itself is no fault."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(f"ALTER DATABASE {connection.info.dbname} SET synchronous_commit = off".encode())
        forgets = connection.execute("SELECT current_setting('fsync') = 'off'").fetchone()
    result = run("doctor", database_url=database_url, mqtt_url=broker.url, **ALONE)
    assert result.returncode == 0
    assert bool(texts(result.stdout, "durability")) == (forgets == (True,))
    own = [text for text in texts(result.stdout, "durability") if "turned off:" in text]  # a node's is its own
    assert not any("synchronous_commit" in text for text in own)


def test_a_database_in_another_encoding(postgres_server: str, broker: Broker) -> None:
    url = urlunsplit(urlsplit(postgres_server)._replace(path="/ascii"))
    with psycopg.connect(postgres_server, autocommit=True) as connection:
        connection.execute("CREATE DATABASE ascii ENCODING 'SQL_ASCII' LOCALE 'C' TEMPLATE template0")
        result = run("doctor", database_url=url, mqtt_url=broker.url, **ALONE)
        connection.execute("DROP DATABASE ascii WITH (FORCE)")
    assert result.returncode == 1
    assert findings(result.stdout)["database"] == "wrong"
    assert "SQL_ASCII" in result.stdout


async def test_dead_letters_by_reason(database_url: str, broker: Broker) -> None:
    """Those of the last day are a warning, with the command that lists them; older ones are not."""
    ages = [(Reason.UNKNOWN_DEVICE, 1), (Reason.UNKNOWN_DEVICE, 3), (Reason.UNKNOWN_DEVICE, 25), (Reason.MALFORMED, 49)]
    now = datetime.now(UTC)
    sent = [letter("devices/1/stats", b"", reason, received_at=now - timedelta(hours=hours)) for reason, hours in ages]
    await keep(database_url, sent)
    result = await arun("doctor", database_url=database_url, mqtt_url=broker.url, **ALONE)
    assert result.returncode == 0
    assert [finding for finding in lines(result.stdout) if finding.what == "dead letters"] == [
        Finding(
            Severity.WARNING,
            "dead letters",
            "unknown_device: 2 readings in the last 24 hours, 3 in all, the newest 60 minutes ago: "
            "`devicestat dead-letters list --reason unknown_device --since 24h` shows them",
        ),
        Finding(
            Severity.OK, "dead letters", "malformed: 0 readings in the last 24 hours, 1 in all, the newest 2 days ago"
        ),
    ]


async def test_the_last_commit_of_each_process(database_url: str, broker: Broker, database: Database) -> None:
    """Not of another ingestor whose client id has the same prefix."""
    ages = {"a_b": 5, "a_b.process-2": 120, "a_b.process-10": 172_800, "axb": 1, "axb.process-2": 1, "a_b.process-x": 1}
    for client_id, age in ages.items():
        await database.execute(
            "INSERT INTO ingest_journal (client_id, batch_no, writer, packets, stored, duplicates, committed_at)"
            "VALUES (%s, 1, gen_random_uuid(), '', 0, 0, now() - interval '1 year'),"
            "       (%s, 2, gen_random_uuid(), '', 0, 0, now() - %s * interval '1 second')",
            (client_id, client_id, age),
        )
    result = await arun("doctor", database_url=database_url, mqtt_url=broker.url, mqtt_client_id="a_b", **ALONE)
    one, two, ten = texts(result.stdout, "last commit")
    assert one.endswith("seconds ago by a_b")
    assert (two, ten) == ("2 minutes ago by a_b.process-2", "2 days ago by a_b.process-10")
    result = await arun("doctor", database_url=database_url, mqtt_url=broker.url, mqtt_client_id="b", **ALONE)
    assert texts(result.stdout, "last commit") == ["none yet by b"]
    assert findings(result.stdout)["last commit"] == "ok"


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (-1, "0 seconds ago"),
        (1, "1 second ago"),
        (119, "119 seconds ago"),
        (120, "2 minutes ago"),
        (7199, "119 minutes ago"),
        (7200, "2 hours ago"),
        (172_800, "2 days ago"),
        (4_000_000_000, "46,296 days ago"),
    ],
)
def test_an_age_is_in_the_largest_unit_of_which_it_has_two(seconds: int, words: str) -> None:
    assert ago(timedelta(seconds=seconds)) == words


# The ingestor


async def test_an_ingestor_that_is_not_ready_says_why(make_settings: Make, own_broker: EmbeddedMosquitto) -> None:
    settings = make_settings(mqtt_url=own_broker.url)
    async with running_ingestor(settings):
        await asyncio.to_thread(own_broker.stop)
        await until_not_ready(settings.ingestor_metrics_port)
        result = await arun("doctor", **given(settings))
        await asyncio.to_thread(own_broker.start)
    assert result.returncode == 1
    assert findings(result.stdout)["ingestor"] == "wrong"
    (said,) = texts(result.stdout, "ingestor")
    assert f"is not ready: broker: no connection to the MQTT broker at {own_broker.host}:{own_broker.port}" in said


async def test_what_is_not_committed_for_long_is_lag(make_settings: Make, broker: Broker, database: Database) -> None:
    await database.execute("INSERT INTO devices (key, name) VALUES ('1', '1')")
    settings = make_settings()

    async def lag() -> Finding:
        return only(await examine_ingestor(settings, tolerated_lag_s=0.5), "lag")

    async with running_ingestor(settings):
        assert await lag() == Finding(Severity.OK, "lag", "0.0 s, with 0 readings in flight")
        async with database.transaction():
            await database.execute("LOCK TABLE readings")
            await publish(broker.host, broker.port, READING)
            late = await eventually(lag, lambda finding: finding.severity is Severity.WARNING)
        await eventually(lag, lambda finding: finding.severity is Severity.OK)
    assert "s ago is not committed yet (1 reading in flight)" in late.text


async def test_several_processes_are_one_ingestor(
    make_settings: Make, start_ingestor: Callable[..., IngestorProcess]
) -> None:
    settings = make_settings()
    process = start_ingestor(settings, "--processes", 2)
    await process.until_ready()
    result = await arun("doctor", **given(settings))
    assert result.returncode == 0
    assert findings(result.stdout) == dict.fromkeys((*ALL, "lag"), "ok")
    assert texts(result.stdout, "lag") == ["0.0 s, with 0 readings in flight"]
    commits = texts(result.stdout, "last commit")
    assert [commit.rpartition(" by ")[2].removeprefix(settings.mqtt_client_id) for commit in commits] == [
        "",
        ".process-2",
    ]
    assert (await process.end())[0] == 0


async def test_the_ingestor_is_not_checked_if_its_port_is_turned_off() -> None:
    (finding,) = await examine_ingestor(Settings(ingestor_metrics_port=0))
    assert finding.severity is Severity.OK
    assert "DEVICESTAT_INGESTOR_METRICS_PORT is 0" in finding.text


async def test_an_ingestor_that_runs_elsewhere_is_no_warning(make_settings: Make) -> None:
    settings = make_settings()
    here = msgspec.structs.replace(settings, ingestor_metrics_port=free_port())
    async with running_ingestor(settings):
        (finding,) = await examine_ingestor(here)
    assert finding.severity is Severity.OK
    assert finding.text.startswith("connected to the database")
    assert f"but it does not respond at http://127.0.0.1:{here.ingestor_metrics_port}" in finding.text
    (finding,) = await examine_ingestor(here)
    assert finding.severity is Severity.WARNING
    assert finding.text.endswith("is `devicestat ingest` running?")


async def test_another_service_on_the_port_is_no_ingestor(database_url: str) -> None:
    settings = Settings(database_url=database_url, http_port=free_port())
    async with services.api(settings):
        found = await examine_ingestor(Settings(ingestor_metrics_port=settings.http_port))
    assert only(found, "lag").severity is Severity.WARNING
    assert "is that an ingestor of this version?" in only(found, "lag").text


async def test_another_server_on_the_port_is_no_ingestor() -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 3\r\nConnection: close\r\n\r\n<p>")
        writer.close()

    async with await asyncio.start_server(refuse, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        found = await examine_ingestor(Settings(ingestor_metrics_port=port))
    assert [finding.severity for finding in found] == [Severity.WARNING, Severity.WARNING]
    assert "is not an ingestor: is DEVICESTAT_INGESTOR_METRICS_PORT right?" in only(found, "ingestor").text
