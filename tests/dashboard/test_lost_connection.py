"""What the page shows while the service or its database is away."""

import pytest

from shared.settings import Settings
from tests import chromium, services
from tests.browser import Page
from tests.dashboard.conftest import store

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


async def test_a_database_that_is_away_is_named(
    page: Page, api_settings: Settings, database_url: str, postgres_server: str
) -> None:
    page.expect(503, "/devices")
    async with services.api(api_settings) as api:
        await api.post("/devices", json={"name": "Boiler, north"})
        await page.open(str(api.base_url))
        await page.until("document.querySelector('.devices tbody tr')")
        async with services.database_away(postgres_server, database_url):
            await page.key("r", "r")
            assert "The page shows the last state" in await page.text(".banner")
            assert "Boiler, north" in await page.text(".devices")
        await page.until("!document.querySelector('.banner')")
