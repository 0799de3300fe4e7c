"""What the page shows while the service or its database is away."""

import asyncio

import httpx
import pytest

from shared.settings import Settings
from tests import chromium, services
from tests.browser import Page
from tests.dashboard.conftest import shown, store
from tests.proxy import running_proxy

pytestmark = [chromium.needs_chromium]


@pytest.mark.parametrize("path", ["/", "/ui/devices/{device}?from=2026-01-31T12:00:00Z&to=2026-01-31T12:01:00Z"])
async def test_a_lost_connection_keeps_the_last_picture(page: Page, api_settings: Settings, path: str) -> None:
    for away in ("/devices", "/stats", "/assets"):
        page.expect(None, away)
    async with services.api(api_settings) as api:
        device = (await api.post("/devices", json={"name": "Boiler, north"})).json()["id"]
        await store(api, device, range(60))
        await page.open(f"{api.base_url}{path.format(device=device)}")
        await page.until("document.querySelector('.devices tbody tr, .cards dd')")
    await page.key("r", "r")
    assert "Not current since" in await page.text(".banner")
    assert "The service does not respond." in await page.text(".banner")
    assert await page.run("document.querySelector('.devices tbody tr, .cards dd') !== null")
    async with services.api(api_settings):
        await page.until("!document.querySelector('.banner') && !document.querySelector('.notice.bad')")


async def test_a_service_that_is_silent_is_said_to_be(page: Page, api_settings: Settings) -> None:
    """Nothing fails, as on a network that drops all packets."""
    page.expect(None, "/devices")
    page.expect(None, "/stats")
    async with services.api(api_settings) as api:
        await api.post("/devices", json={"name": "Boiler, north"})
        url = httpx.URL(str(api.base_url))
        async with running_proxy(lambda: asyncio.open_connection(url.host, url.port)) as proxy:
            await page.hurry(10)
            await page.open(f"http://127.0.0.1:{proxy.port}")
            await page.until("document.querySelector('.devices tbody tr')")
            assert not await page.run("document.querySelector('.banner') !== null")
            proxy.silence()
            assert "The service has not answered for 10 seconds." in await page.text(".banner")
            proxy.speak()
            proxy.cut()
            await page.until("!document.querySelector('.banner')")
            await page.open("about:blank")  # before the API ends


async def test_a_database_that_is_away_is_named(
    page: Page, api_settings: Settings, database_url: str, postgres_server: str
) -> None:
    page.expect(503, "/")
    async with shown(page, api_settings) as api:
        await api.post("/devices", json={"name": "Boiler, north"})
        await page.open(str(api.base_url))
        await page.until("document.querySelector('.devices tbody tr')")
        async with services.database_away(postgres_server, database_url):
            await page.key("r", "r")
            assert "The page shows the last state" in await page.text(".banner")
            assert "Boiler, north" in await page.text(".devices")
        await page.until("!document.querySelector('.banner')")
