"""The screen of the installation's health, on a real stack."""

import asyncio
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from deploy.local.mosquitto import EmbeddedMosquitto
from shared.readings.model import Reason
from shared.settings import Settings
from tests import chromium, services
from tests.browser import Page
from tests.conftest import Broker, Database
from tests.credentials import keys
from tests.dashboard.conftest import shown
from tests.dashboard.test_screens import faults_of_access
from tests.ingestion import running_ingestor
from tests.letters import keep, letter
from tests.ports import free_port
from tests.publisher import Message, publish
from tests.services import database_away

pytestmark = [chromium.needs_chromium]
Make = Callable[..., Settings]
READING = Message(b'{"x":1,"y":2,"z":3,"timestamp":1769860800}')
PATH = "/ui/health?tz=UTC"
ROWS = "[...document.querySelectorAll('.processes > .scroll tbody tr')].map(row => row.innerText)"
FINDINGS = "[...document.querySelectorAll('.findings > ul > li')].map(each => each.innerText)"


def row_of(kind: str, text: str) -> str:
    """An expression: the row of the process has the text."""
    return f"{ROWS}.some(row => row.startsWith({kind!r}) && row.includes({text!r}))"


def finding(text: str) -> str:
    """An expression: a finding that is not well has the text."""
    return f"{FINDINGS}.find(each => each.includes({text!r}))"


def value(name: str) -> str:
    """An expression: the figure with this name."""
    article = f"[...document.querySelectorAll('.lines article')].find(each => each.innerText.startsWith({name!r}))"
    return f"{article}?.querySelector('.value').innerText"


async def test_a_whole_installation(make_settings: Make, broker: Broker, database: Database, page: Page) -> None:
    await database.execute("INSERT INTO devices (key, name) VALUES ('1', '1')")
    settings = make_settings()
    refused = letter("devices/1/stats", b"{}", Reason.DATABASE_REFUSED, received_at=datetime.now(UTC))
    await keep(settings.database_url, [refused])
    async with running_ingestor(settings), services.worker(settings), shown(page, settings) as api:
        await publish(broker.host, broker.port, READING, READING, Message(b"{"))
        await page.hurry(10)
        await page.open(f"{api.base_url}{PATH}")
        for kind in ("Ingestor", "API", "Worker"):
            await page.until(row_of(kind, "running"))
        await page.until(row_of("Ingestor", "broker connected for"))
        await page.until(row_of("Ingestor", settings.mqtt_client_id))
        await page.until(f"{value('Duplicates')} === '1'")
        await page.until(f"{value('Refused')} === '1'")
        assert "malformed 1" in await page.text(".lines")
        assert "ms" in await page.run(value("Delay until stored"))
        await page.until("document.querySelector('.lines path').getAttribute('d').includes('L')")  # it reads again
        await page.click(".processes details summary")
        assert "settle" in await page.text(".processes details")
        assert "Refused by the database" in await page.text(".health-cards table")
        await page.run("document.querySelector('.health-cards td').textContent = '1,234,567,890'")
        edges = "['table', '.card:has(table)'].map(each => document.querySelector(`.health-cards ${each}`)"
        table, card = await page.run(f"{edges}.getBoundingClientRect().right)")
        assert table < card
        assert "of 100" in await page.text(".health-cards") or " of " in await page.text(".health-cards")


async def test_a_broker_that_is_away(make_settings: Make, own_broker: EmbeddedMosquitto, page: Page) -> None:
    settings = make_settings(mqtt_url=own_broker.url)
    async with running_ingestor(settings), shown(page, settings) as api:
        await page.hurry(10)
        await page.open(f"{api.base_url}{PATH}")
        await page.until(row_of("Ingestor", "broker connected for"))
        await asyncio.to_thread(own_broker.stop)
        await page.until(row_of("Ingestor", "not ready"))
        found = await page.until(finding("has not been ready for"))
        assert found.startswith("✕ Wrong")
        assert "broker: " in found
        await asyncio.to_thread(own_broker.start)
        await page.until(row_of("Ingestor", "broker connected for"))
        await page.until(f"!{finding('has not been ready for')}")


@contextmanager
def mosquitto(options: dict[str, str]) -> Iterator[EmbeddedMosquitto]:
    """Run a broker with these options."""
    with (
        tempfile.TemporaryDirectory(prefix="ds") as name,
        EmbeddedMosquitto(Path(name), free_port(), options) as broker,
    ):
        yield broker


CARD = "document.querySelector('[aria-label=\"Queue at the broker\"]')?.innerText"


@pytest.mark.parametrize("theme", ["light", "dark"])
async def test_the_queue_of_the_broker(make_settings: Make, database: Database, page: Page, theme: str) -> None:
    """100 messages come for an ingestor that is stopped, of which the broker keeps 20. Another ingestor shows them."""
    await database.execute("INSERT INTO devices (key, name) VALUES ('1', '1')")
    await page.send("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": theme}])
    with mosquitto({"sys_interval": "1", "max_queued_messages": "20"}) as broker:
        settings = make_settings(mqtt_url=broker.url, mqtt_window=10)
        async with running_ingestor(settings):
            pass
        await publish(broker.host, broker.port, *[READING] * 100)
        other = make_settings(
            mqtt_url=broker.url, mqtt_client_id="other", mqtt_topic="other/+/stats", mqtt_window=10,
            ingestor_metrics_port=free_port(),
        )  # fmt: skip
        async with running_ingestor(other), shown(page, settings) as api:
            await page.hurry(10)
            await page.open(f"{api.base_url}{PATH}")
            await page.until(f"{value('At the broker')} === '20'")
            assert "messages that wait, 80 dropped" in await page.text(".lines")
            card = await page.run(CARD)
            assert "messages waiting\n20" in card
            assert "dropped since its start\n80" in card
            assert "mosquitto version" in card
            assert f"127.0.0.1:{broker.port} on " in card
            found = await page.until(finding("has dropped 80 acknowledged messages"))
            assert found.startswith("! Warning")
            assert "raise max_queued_messages and max_queued_bytes, as in mosquitto.conf" in found
            assert await page.run(finding("is the ingestor running and fast enough?"))
            assert await faults_of_access(page) == []
            async with running_ingestor(settings):
                await page.until(f"{value('At the broker')} === '0'")
                await page.until(f"!{finding('is the ingestor running and fast enough?')}?.startsWith('! Warning')")


async def test_a_broker_that_does_not_tell_its_queue(make_settings: Make, page: Page) -> None:
    with mosquitto({"sys_interval": "0"}) as broker:
        settings = make_settings(mqtt_url=broker.url)
        async with shown(page, settings) as api:
            await page.hurry(10)
            await page.open(f"{api.base_url}{PATH}")
            await page.until(f"{CARD}.includes('no ingestor runs')")
            async with running_ingestor(settings):
                await page.until(f"{CARD}.includes('The broker does not publish its queue')")
                assert await page.run(value("At the broker")) == "\N{EN DASH}"
                assert "the broker does not say" in await page.text(".lines")
                assert await faults_of_access(page) == []


async def test_requests_that_wait_without_a_worker(api_settings: Settings, database: Database, page: Page) -> None:
    await database.execute("INSERT INTO devices (id, key, name) VALUES (7, '7', 'n')")
    await database.execute("INSERT INTO analysis_requests (device_id, period) VALUES (7, '[,]')")
    async with shown(page, api_settings) as api:
        await page.hurry(10)
        await page.open(f"{api.base_url}{PATH}")
        found = await page.until(finding("and no worker runs"))
        assert found.startswith("✕ Wrong")
        assert await page.run("document.querySelector('.findings li:first-child code').innerText") == "devicestat work"
        async with services.worker(api_settings):
            await page.until(row_of("Worker", "running"))
            await page.until(f"!{finding('and no worker runs')}")


async def test_a_database_that_is_away_leaves_the_last_picture(
    api_settings: Settings, page: Page, postgres_server: str, database_url: str
) -> None:
    async with shown(page, api_settings) as api:
        await page.hurry(10)
        await page.open(f"{api.base_url}{PATH}")
        await page.until(row_of("API", "running"))
        page.expect(503, "/")
        async with database_away(postgres_server, database_url):
            await page.until("document.querySelector('.banner')?.innerText.includes('Not current since')")
            assert "The page shows the last state" in await page.text(".banner")
            assert await page.run(row_of("API", "running"))
            assert await page.run("document.querySelector('.notice.bad') === null")
        await page.until("!document.querySelector('.banner')")


@pytest.mark.parametrize(("role", "sees_hosts"), [("admin", True), ("analyst", False)])
async def test_only_an_admin_sees_hosts(
    api_settings: Settings, database: Database, page: Page, role: str, sees_hosts: bool
) -> None:
    made = await keys(database)
    async with shown(page, msgspec.structs.replace(api_settings, auth="on")) as api:
        page.expect(401, "/session")
        await page.hurry(10)
        await page.open(f"{api.base_url}/ui/sign-in?next={PATH.replace('?', '%3F')}")
        await page.fill("input[type=password]", getattr(made, role))
        await page.key("Enter", "\r")
        await page.until(row_of("API", "running"))
        assert ("pid" in await page.text(".processes")) is sees_hosts


async def test_a_role_that_may_not_read_sees_why(api_settings: Settings, database: Database, page: Page) -> None:
    made = await keys(database)
    async with shown(page, msgspec.structs.replace(api_settings, auth="on")) as api:
        page.expect(401, "/session")
        await page.open(f"{api.base_url}/ui/sign-in?next={PATH.replace('?', '%3F')}")
        page.expect(403, "/status")
        await page.fill("input[type=password]", made.writer)
        await page.key("Enter", "\r")
        assert "this requires an admin key or an analyst key" in await page.text(".notice.bad")


async def test_a_page_that_is_left_asks_no_more(api_settings: Settings, page: Page) -> None:
    async with shown(page, api_settings) as api:
        await page.hurry(10)
        await page.open(f"{api.base_url}{PATH}")
        await page.until(row_of("API", "running"))
        await page.click(".top nav a")
        await page.until("location.pathname === '/'")
        asked = len([url for url in page.asked if url.endswith("/status")])
        await asyncio.sleep(2)  # longer than the interval
        assert len([url for url in page.asked if url.endswith("/status")]) == asked
