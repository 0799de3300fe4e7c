"""An ingestor reads the figures that the broker publishes about itself, without any effect on its session."""

import asyncio
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from deploy.doctor.broker import examine_broker
from deploy.local.mosquitto import EmbeddedMosquitto
from ingestor.session import broker_figures
from shared.settings import Settings
from shared.status.findings import Finding
from tests import services
from tests.closed_broker import ClosedBroker
from tests.conftest import Database
from tests.ingestion import IngestorProcess, metrics, running_ingestor
from tests.ports import free_port
from tests.publisher import Message, publish
from tests.quirky_broker import quirky
from tests.waiting import eventually

Make = Callable[..., Settings]
READING = Message(b'{"x":1,"y":2,"z":3}')
EACH_SECOND = {"sys_interval": "1"}
NAME = "devicestat_broker_messages"


@contextmanager
def mosquitto(options: dict[str, str], rules: str | None = None) -> Iterator[EmbeddedMosquitto]:
    """Run a broker with these options, and with the rules as its acl_file."""
    with tempfile.TemporaryDirectory(prefix="ds") as name:
        directory = Path(name)
        directory.chmod(0o755)
        if rules is not None:
            (directory / "acl").write_text(rules)
            options = {**options, "acl_file": f"{name}/acl"}
        with EmbeddedMosquitto(directory, free_port(), options) as broker:
            yield broker


def brokers_of(api: httpx.AsyncClient) -> Callable[[], Awaitable[list[dict[str, Any]]]]:
    async def read() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = (await api.get("/status")).json()["brokers"]
        return found

    return read


async def findings(api: httpx.AsyncClient, subject: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await api.get("/status")).json()["findings"]
    return [finding for finding in found if finding["subject"] == subject]


def has(figure: str, value: int) -> Callable[[list[dict[str, Any]]], bool]:
    return lambda found: bool(found) and (found[0]["figures"] or {}).get(figure) == value


def is_from(source: str) -> Callable[[list[dict[str, Any]]], bool]:
    return lambda found: bool(found) and found[0]["source"] == source


async def own_finding(settings: Settings, what: str) -> Finding:
    """Return what the doctor finds."""
    return next(one for one in await examine_broker(settings, messages=1) if one.what == what)


async def test_what_waits_for_a_stopped_ingestor_is_shown_by_another(make_settings: Make, database: Database) -> None:
    await database.execute("INSERT INTO devices (key, name) VALUES ('1', '1')")
    with mosquitto(EACH_SECOND) as broker:
        settings = make_settings(mqtt_url=broker.url, mqtt_window=100)
        async with running_ingestor(settings):
            pass  # its session remains
        await publish(broker.host, broker.port, *[READING] * 200)
        other = make_settings(
            mqtt_url=broker.url, mqtt_client_id="other", mqtt_topic="other/+/stats", mqtt_window=100,
            ingestor_metrics_port=free_port(),
        )  # fmt: skip
        async with running_ingestor(other), services.api(settings) as api:
            (found,) = await eventually(brokers_of(api), has("waiting", 200))
            assert found["source"] == "read"
            assert found["ingestors"] == ["other"]
            assert found["address"].startswith(f"127.0.0.1:{broker.port} on ")
            assert found["figures"]["version"].startswith("mosquitto version ")
            assert found["figures"]["waiting_bytes"] > 200 * len(READING.payload)
            assert found["figures"]["dropped"] == 0
            shown = await metrics(other.ingestor_metrics_port)
            assert shown[f"{NAME}_waiting"] == 200
            assert shown[f"{NAME}_waiting_bytes"] >= 200 * len(READING.payload)
            assert shown[f"{NAME}_dropped_total"] == 0
            (warning,) = await findings(api, "waiting")
            assert warning["severity"] == "warning"
            assert warning["text"].startswith("about 200 messages (")
            assert (
                warning["text"].partition(" in the broker")[2]
                == (await own_finding(settings, "waiting")).text.partition(" in the broker")[2]
            )
            async with running_ingestor(settings):
                (found,) = await eventually(brokers_of(api), has("waiting", 0))
                assert found["ingestors"] == sorted(["other", settings.mqtt_client_id])
                (well,) = await findings(api, "waiting")
                assert well["severity"] == "ok"


async def test_dropped_messages_are_a_warning_as_of_the_doctor(make_settings: Make) -> None:
    with mosquitto({**EACH_SECOND, "max_queued_messages": "20"}) as broker:
        settings = make_settings(mqtt_url=broker.url)
        async with running_ingestor(settings):
            pass
        await publish(broker.host, broker.port, *[READING] * 100)
        async with running_ingestor(settings), services.api(settings) as api:
            await eventually(brokers_of(api), has("dropped", 80))
            (warning,) = await findings(api, "dropped")
            assert warning["severity"] == "warning"
            assert warning["text"].startswith("the broker has dropped 80 acknowledged messages for its clients since")
            advice = (await own_finding(settings, "dropped")).text.partition(" a minute now: ")[2]
            assert "raise max_queued_messages and max_queued_bytes, as in mosquitto.conf" in advice
            assert warning["text"].endswith(advice)


ALLOWED = "topic read devices/#\ntopic write devices/#\n"


@pytest.mark.parametrize(("interval", "rules"), [("0", None), ("1", ALLOWED)], ids=["not published", "forbidden"])
async def test_a_broker_that_does_not_tell(
    make_settings: Make, database: Database, monkeypatch: pytest.MonkeyPatch, interval: str, rules: str | None
) -> None:
    """The connection is closed after a while, and made again later. Meanwhile readings are stored."""
    monkeypatch.setattr(broker_figures, "SILENT_S", 0.5)
    monkeypatch.setattr(broker_figures, "AGAIN_S", 0.1)
    await database.execute("INSERT INTO devices (key, name) VALUES ('1', '1')")
    with mosquitto({"sys_interval": interval, "log_type": "all"}, rules) as broker:
        settings = make_settings(mqtt_url=broker.url)
        async with running_ingestor(settings), services.api(settings) as api:
            (found,) = await eventually(brokers_of(api), is_from("not_published"))
            assert found["figures"] is None
            assert await findings(api, "waiting") == []

            async def connections() -> int:
                return broker.log.read_text().count(" as devicestat-figures-")

            await eventually(connections, lambda count: count >= 4)
            await publish(broker.host, broker.port, READING)
            await eventually(count_of(database), lambda count: count == 1)
            (found,) = await brokers_of(api)()
            assert found["source"] == "not_published"
            assert f"{NAME}_waiting" not in await metrics(settings.ingestor_metrics_port)


def count_of(database: Database) -> Callable[[], Awaitable[int]]:
    async def count() -> int:
        ((found,),) = await (await database.execute("SELECT count(*) FROM readings")).fetchall()
        return int(found)

    return count


async def test_a_refused_connection_is_logged_once_and_changes_nothing(
    make_settings: Make, start_ingestor: Callable[..., IngestorProcess], database: Database
) -> None:
    """The broker refuses each connection but the ingestor's."""
    await database.execute("INSERT INTO devices (key, name) VALUES ('1', '1')")
    async with quirky() as broker:
        settings = make_settings(mqtt_url=broker.url)
        process = start_ingestor(settings)
        await process.until_ready()
        async with services.api(settings) as api:
            (found,) = await eventually(brokers_of(api), is_from("not_connected"))
            assert found["figures"] is None
            await eventually(times(broker, "refused"), lambda count: count >= 2)
            assert broker.deliver("devices/1/stats", READING.payload) == 1
            await eventually(count_of(database), lambda count: count == 1)

            async def faults() -> list[str | None]:
                processes = (await api.get("/status")).json()["processes"]
                (parts,) = [one["parts"] for one in processes if one["kind"] == "ingestor"]
                return [part["fault"] for part in parts]

            await eventually(faults, lambda found: found == [None, None])
        code, log = await process.end()
    assert code == 0, log
    assert log.count("the broker's figures cannot be read") == 1
    assert "refuses the connection: not authorized" in log


def times(counted: object, name: str) -> Callable[[], Awaitable[int]]:
    async def count() -> int:
        return int(getattr(counted, name))

    return count


async def test_with_the_credentials_of_the_ingestor(make_settings: Make) -> None:
    """As in a deployment: nothing is allowed but to the users of the broker."""
    with tempfile.TemporaryDirectory(prefix="ds") as name, ClosedBroker(Path(name)) as broker:
        settings = broker.settings(make_settings())
        async with running_ingestor(settings), services.api(settings) as api:
            (found,) = await eventually(brokers_of(api), lambda one: is_from("read")(one) and has("dropped", 0)(one))
            assert "ingestor" not in found["address"]


async def test_they_are_read_again_after_a_restart_of_the_broker(
    make_settings: Make, own_broker: EmbeddedMosquitto
) -> None:
    settings = make_settings(mqtt_url=own_broker.url)
    async with running_ingestor(settings), services.api(settings) as api:
        await eventually(brokers_of(api), is_from("read"))
        await asyncio.to_thread(own_broker.stop)
        (found,) = await eventually(brokers_of(api), is_from("not_connected"))
        assert found["figures"] is None
        await asyncio.to_thread(own_broker.start)
        await eventually(brokers_of(api), is_from("read"))


async def test_a_broker_that_replaces_client_ids_keeps_the_session_and_its_queue(
    make_settings: Make, start_ingestor: Callable[..., IngestorProcess], database: Database
) -> None:
    """A second connection with Clean Start would delete the session, with what waits in it."""
    await database.execute("INSERT INTO devices (key, name) VALUES ('1', '1')")
    port = free_port()  # of a listener for the publisher
    with mosquitto({"use_username_as_clientid": f"true\nlistener {port} 127.0.0.1"}) as broker:
        url = f"mqtt://somebody:secret@{broker.host}:{broker.port}"
        settings = make_settings(mqtt_url=url, mqtt_window=10)
        process = start_ingestor(settings)
        await process.until_ready()

        async def logged() -> str:
            return process.logged

        await eventually(logged, lambda log: "it replaces client ids" in log)
        async with database.transaction():
            await database.execute("LOCK TABLE readings")  # so that messages wait in the broker
            await publish(broker.host, port, *numbered(0, 500))
        process.kill()
        await publish(broker.host, port, *numbered(500, 600))
        process = start_ingestor(settings)
        await eventually(logged, lambda log: "it replaces client ids" in log)
        await eventually(count_of(database), lambda count: count >= 600)
        code, log = await process.end()
        assert code == 0, log
    rows = await (await database.execute("SELECT DISTINCT x FROM readings ORDER BY x")).fetchall()
    assert [x for (x,) in rows] == list(range(600))


def numbered(start: int, end: int) -> list[Message]:
    return [Message(b'{"x":%d,"y":2,"z":3}' % number) for number in range(start, end)]


async def test_the_connection_ends_with_the_ingestor_and_leaves_nothing(make_settings: Make) -> None:
    with mosquitto({**EACH_SECOND, "log_type": "all"}) as broker:
        settings = make_settings(mqtt_url=broker.url)
        async with running_ingestor(settings), services.api(settings) as api:
            await eventually(brokers_of(api), is_from("read"))
        assert not any(task.get_name() == "broker figures" for task in asyncio.all_tasks())

        async def still_there() -> set[str]:
            """Clients that have connected and not gone."""
            log = broker.log.read_text()
            came = {part.split(" ")[0] for part in log.split(" as devicestat-figures-")[1:]}
            return {one for one in came if f"Client devicestat-figures-{one} " not in log}

        await eventually(still_there, lambda found: not found)
