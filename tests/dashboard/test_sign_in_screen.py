"""Signing in, in Chromium: what each role sees, and what ends a session."""

from collections.abc import AsyncIterator

import httpx
import msgspec
import pytest

from shared.postgres.connections import Connection as Database
from shared.settings import Settings
from tests import chromium, services
from tests.browser import Page
from tests.credentials import Keys, bearer, keys

pytestmark = [chromium.needs_chromium]


@pytest.fixture
async def known(database: Database) -> Keys:
    """A key of each role."""
    return await keys(database)


@pytest.fixture
async def closed(api_settings: Settings, known: Keys) -> AsyncIterator[httpx.AsyncClient]:
    """A client of an API that asks for keys, with a device."""
    async with services.api(msgspec.structs.replace(api_settings, auth="on")) as client:
        client.headers.update(bearer(known.admin))
        assert (await client.post("/devices", json={"name": "Boiler, north"})).status_code == 201
        yield client


async def sign_in(page: Page, key: str) -> None:
    """Sign in on the screen that an address of a device or the devices leads to."""
    for path in ("/session", "/devices", "/stats"):
        page.expect(401, path)
    await page.until("document.querySelector('.sign-in')")
    await page.fill(".sign-in input", key)
    await page.click(".sign-in button")


async def test_a_key_is_typed_once_and_leads_back(page: Page, closed: httpx.AsyncClient, known: Keys) -> None:
    await page.open(f"{closed.base_url}/ui/devices/1?from=now-1h&to=now")
    await sign_in(page, known.analyst)
    await page.until("document.querySelector('h1').innerText === 'Boiler, north'")
    assert await page.run("location.pathname + location.search") == "/ui/devices/1?from=now-1h&to=now"
    assert "analyst" in await page.text(".caller")
    assert known.analyst not in await page.run("document.cookie + JSON.stringify(localStorage) + location.href")
    await page.open(str(closed.base_url))
    await page.until("document.querySelector('.devices tbody tr')")


@pytest.mark.parametrize(("role", "registers"), [("admin", True), ("analyst", False)])
async def test_a_role_sees_what_it_may_do(
    page: Page, closed: httpx.AsyncClient, known: Keys, role: str, registers: bool
) -> None:
    await page.open(str(closed.base_url))
    await sign_in(page, getattr(known, role))
    await page.until("document.querySelector('.devices tbody tr')")
    assert await page.run("document.querySelector('.title .primary') !== null") is registers
    await page.key("n", "n")
    assert await page.run("document.querySelector('dialog') !== null") is False or registers


async def test_a_wrong_key_is_refused_in_the_words_of_the_api(
    page: Page, closed: httpx.AsyncClient, known: Keys
) -> None:
    await page.open(str(closed.base_url))
    await sign_in(page, known.unknown)
    assert "the key is unknown, expired or revoked" in await page.text(".sign-in .notice.bad")


async def test_signing_out_ends_the_session(page: Page, closed: httpx.AsyncClient, known: Keys) -> None:
    await page.open(str(closed.base_url))
    await sign_in(page, known.admin)
    await page.until("document.querySelector('.devices tbody tr')")
    await page.click(".tools .small")
    await page.until("document.querySelector('.sign-in')")
    await page.open(str(closed.base_url))
    await page.until("document.querySelector('.sign-in')")


async def test_a_link_does_not_lead_to_another_site_after_signing_in(
    page: Page, closed: httpx.AsyncClient, known: Keys
) -> None:
    await page.open(f"{closed.base_url}/ui/sign-in?next=https://elsewhere.example.com/ui/devices/1")
    await sign_in(page, known.admin)
    await page.until("document.querySelector('.devices tbody tr')")
    assert await page.run("location.href") == f"{closed.base_url}/"


async def test_downloads_work_with_the_session(page: Page, closed: httpx.AsyncClient, known: Keys) -> None:
    await closed.post("/stats", json={"device_id": 1, "x": 1, "y": 2, "z": 3})
    await page.open(f"{closed.base_url}/ui/devices/1")
    await sign_in(page, known.analyst)
    link = await page.until("document.querySelector('a[download]')?.href")
    text = await page.run(f"fetch({link!r}).then(answer => answer.text())")
    assert len(text.splitlines()) == 2
    assert "DEVICESTAT_API_KEY" in await page.text("pre")
