"""`devicestat doctor`: each thing that can be wrong, found, and how to mend it said."""

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import aiomqtt
import psycopg
import pytest

from deploy.mosquitto import EmbeddedMosquitto
from tests.command import arun, run
from tests.conftest import Broker
from tests.ports import free_port
from tests.waiting import eventually

PLUGINS = list(Path("/usr/lib").glob("**/mosquitto_dynamic_security.so"))
ALL = ["settings", "database", "schema", "partitions", "broker", "subscription"]


def findings(stdout: str) -> dict[str, str]:
    """The state of what was looked at."""
    return {line.split()[1]: line.split()[0] for line in stdout.splitlines()}


@pytest.fixture
def database_url(database_url: str) -> str:
    """As a real one: the tests' server commits without waiting for its disk."""
    set_commit(database_url, "on")
    return database_url


def set_commit(url: str, value: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        name = connection.info.dbname
        connection.execute(f"ALTER DATABASE {name} SET synchronous_commit = {value}".encode())


def test_all_is_well(database_url: str, broker: Broker) -> None:
    result = run("doctor", database_url=database_url, mqtt_url=broker.url)
    assert (result.returncode, result.stderr) == (0, "")
    assert findings(result.stdout) == dict.fromkeys(ALL, "ok")
    assert "PostgreSQL" in result.stdout
    assert "mosquitto version" in result.stdout


def test_wrong_settings_are_all_named() -> None:
    result = run("doctor", mqtt_url="http://x", batch_max_readings=0, mqtt_windw=5)
    assert result.returncode == 1
    for name in ("DATABASE_URL is not set", "MQTT_URL", "BATCH_MAX_READINGS", "did you mean DEVICESTAT_MQTT_WINDOW"):
        assert name in result.stdout
    assert "`devicestat up` prints an export line" in result.stdout
    assert all(line.startswith("wrong    settings") for line in result.stdout.splitlines())


def test_neither_server_answers() -> None:
    port = free_port()
    result = run(
        "doctor", database_url=f"postgresql://u:secret@127.0.0.1:{port}/d", mqtt_url=f"mqtt://127.0.0.1:{port}"
    )
    assert result.returncode == 1
    assert findings(result.stdout) == {"settings": "ok", "database": "wrong", "broker": "wrong"}
    assert result.stdout.count(f"127.0.0.1:{port}") >= 2
    assert "secret" not in result.stdout
    assert len(result.stdout.splitlines()) == 3


def test_a_database_without_a_schema(empty_database_url: str, broker: Broker) -> None:
    result = run("doctor", database_url=empty_database_url, mqtt_url=broker.url)
    assert result.returncode == 1
    assert findings(result.stdout)["schema"] == "wrong"
    assert "run `devicestat migrate`" in result.stdout


def test_a_month_without_a_partition(database_url: str, broker: Broker) -> None:
    with psycopg.connect(database_url, autocommit=True) as connection:
        row = connection.execute("SELECT to_char(now() + interval '1 month', 'YYYY_MM')").fetchone()
        assert row is not None
        connection.execute(f"DROP TABLE readings_{row[0]}".encode())
    result = run("doctor", database_url=database_url, mqtt_url=broker.url)
    assert result.returncode == 1
    assert findings(result.stdout)["partitions"] == "wrong"
    assert f"none for {row[0].replace('_', '-')}" in result.stdout


def test_a_database_that_forgets(database_url: str, broker: Broker) -> None:
    set_commit(database_url, "off")
    result = run("doctor", database_url=database_url, mqtt_url=broker.url)
    assert result.returncode == 0
    assert findings(result.stdout)["durability"] == "warning"
    assert "synchronous_commit is off" in result.stdout


def test_a_database_in_another_encoding(postgres_server: str, broker: Broker) -> None:
    url = urlunsplit(urlsplit(postgres_server)._replace(path="/ascii"))
    with psycopg.connect(postgres_server, autocommit=True) as connection:
        connection.execute("CREATE DATABASE ascii ENCODING 'SQL_ASCII' LOCALE 'C' TEMPLATE template0")
        result = run("doctor", database_url=url, mqtt_url=broker.url)
        connection.execute("DROP DATABASE ascii WITH (FORCE)")
    assert result.returncode == 1
    assert findings(result.stdout)["database"] == "wrong"
    assert "SQL_ASCII" in result.stdout


def test_a_broker_on_a_unix_socket(database_url: str) -> None:
    with mosquitto({"protocol": "mqtt\nlistener 0 DIRECTORY/data/socket"}) as local:
        url = f"mqtt+unix://{local.data}/socket"
        result = run("doctor", database_url=database_url, mqtt_url=url)
    assert findings(result.stdout) == dict.fromkeys(ALL, "ok")
    result = run("doctor", database_url=database_url, mqtt_url=url)
    assert result.returncode == 1
    assert findings(result.stdout)["broker"] == "wrong"
    assert f"no session at unix socket {local.data}/socket" in result.stdout


@contextmanager
def mosquitto(options: dict[str, str], files: dict[str, str] | None = None) -> Iterator[EmbeddedMosquitto]:
    """A broker with these options; DIRECTORY in them is where the files are."""
    with tempfile.TemporaryDirectory(prefix="ds") as name:
        directory = Path(name)
        directory.chmod(0o755)
        for file, content in (files or {}).items():
            (directory / file).write_text(content)
        placed = {option: value.replace("DIRECTORY", name) for option, value in options.items()}
        with EmbeddedMosquitto(directory, free_port(), placed) as broker:
            yield broker


def test_a_broker_that_does_not_know_us(database_url: str) -> None:
    with mosquitto({"allow_anonymous": "false"}) as strict:
        result = run("doctor", database_url=database_url, mqtt_url=strict.url)
    assert result.returncode == 1
    assert findings(result.stdout)["broker"] == "wrong"
    assert "Not authorized" in result.stdout


def test_a_broker_that_grants_too_little(database_url: str) -> None:
    with mosquitto({"max_qos": "0"}) as careless:
        result = run("doctor", database_url=database_url, mqtt_url=careless.url)
    assert result.returncode == 1
    assert findings(result.stdout)["subscription"] == "wrong"
    assert "at QoS 0 only" in result.stdout


@pytest.mark.skipif(not PLUGINS, reason="needs Mosquitto's dynamic security plugin, which Debian's package has")
def test_a_subscription_that_access_control_forbids(database_url: str) -> None:
    rules = {"publishClientSend": True, "publishClientReceive": True, "subscribe": False, "unsubscribe": True}
    options = {"plugin": str(PLUGINS[0]), "plugin_opt_config_file": "DIRECTORY/rules.json"}
    with mosquitto(options, {"rules.json": json.dumps({"defaultACLAccess": rules})}) as strict:
        result = run("doctor", database_url=database_url, mqtt_url=strict.url)
    assert result.returncode == 1
    assert findings(result.stdout) == {**dict.fromkeys(ALL, "ok"), "subscription": "wrong"}
    assert "the broker refuses devices/+/stats (Not authorized)" in result.stdout


def test_the_subscription_of_a_group_takes_no_share(database_url: str, broker: Broker) -> None:
    topic = "$share/ingestors/devices/+/stats"
    result = run("doctor", database_url=database_url, mqtt_url=broker.url, mqtt_topic=topic)
    assert result.returncode == 0
    assert "devices/+/stats at QoS 1" in result.stdout
    assert "$share" not in result.stdout


async def test_a_broker_that_drops_messages(database_url: str) -> None:
    """Its limits cannot be asked for, but what they have cost can. It is a warning, for it is past."""
    with mosquitto({"max_queued_messages": "10", "sys_interval": "1"}) as small:
        kept = aiomqtt.Client(small.host, small.port, identifier="kept", clean_session=False)
        async with kept:
            await kept.subscribe("devices/+/stats", qos=1)
        async with aiomqtt.Client(small.host, small.port) as client:
            for _ in range(100):
                await client.publish("devices/1/stats", b"{}", qos=1)

        async def examined() -> str:
            return (await arun("doctor", database_url=database_url, mqtt_url=small.url)).stdout

        shown = await eventually(examined, lambda shown: "has dropped" in shown)
    assert "raise max_queued_messages" in shown
    assert findings(shown)["queue"] == "warning"
    assert "wrong" not in findings(shown).values()
