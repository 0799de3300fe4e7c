"""Each screen in Chromium, in both themes, wide and narrow: rules of accessibility, the policy, and the hosts."""

import json
from urllib.parse import urlsplit

import httpx
import pytest

from query_api.dashboard import shell
from query_api.dashboard.assets import FOLDER
from shared.access.credentials import Role
from tests import chromium
from tests.browser import Page
from tests.conftest import Database
from tests.credentials import key
from tests.dashboard.pixels import pixels
from tests.letters import FOUR, keep
from tests.waiting import eventually

pytestmark = [chromium.needs_chromium]
AXE = FOLDER / "node_modules" / "axe-core" / "axe.min.js"
TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
WAVES = "/ui/devices/{waves}?from=2026-01-31T12:00:00Z&to=2026-01-31T12:20:00Z&tz=UTC"
SCREENS = {
    "/": "document.querySelector('.devices tbody tr')",
    "/ui/compare?device={waves}&from=2026-01-31T12:00:00Z&to=2026-01-31T12:20:00Z&offset=P1D": "document.querySelector("
    "'.compared') && document.querySelector('canvas') && !document.querySelector('[aria-busy=true]')",
    "/ui/live?device={waves}": "document.querySelector('.live-state .on') && document.querySelector('canvas')",
    "/ui/health": "document.querySelector('.processes tbody tr')",
    "/ui/analyses": "document.querySelector('.filters') && document.querySelector('.notice')",
    "/ui/schedules": "document.querySelector('.title .primary') && document.querySelector('.notice')",
    "/ui/refused?from=2026-01-31&to=2026-01-31&tz=UTC": "document.querySelector('.letters tbody tr') "
    "&& document.querySelector('.refusals svg') && document.querySelector('.acts')",
    "/ui/keys?tz=UTC": "document.querySelector('.access-keys tbody tr') && document.querySelector('.audit tbody tr')",
    "/ui/sign-in": "document.querySelector('.sign-in')",
    WAVES: "document.querySelector('time-plot canvas') && document.querySelector('.histogram') "
    "&& document.querySelector('section.card tbody tr')",
}
"""An address of each screen, and when it is complete."""

IS_LINK_VISIBLE = """
    (link => !link || (({left, right}) => left >= 0 && right <= innerWidth)(link.getBoundingClientRect()))
    (document.querySelector(".top nav [aria-current]"))
"""


@pytest.fixture(autouse=True)
async def filled(database_url: str, database: Database) -> None:
    """A database with dead letters and a key."""
    await keep(database_url, FOUR)
    await key(database, Role.ANALYST)


def test_every_screen_is_opened() -> None:
    assert len(SCREENS) == len(shell.SCREENS)


async def faults_of_access(page: Page) -> list[str]:
    """Return the faults that axe-core finds."""
    await page.run(AXE.read_text())
    found = await page.run(f"axe.run(document, {{runOnly: {json.dumps(TAGS)}}}).then(result => result.violations)")
    return [f"{fault['id']}: {fault['help']}: {fault['nodes'][0]['html'][:200]}" for fault in found]


@pytest.mark.parametrize("address", SCREENS)
async def test_a_screen_can_be_used_by_everybody(page: Page, api: httpx.AsyncClient, waves: int, address: str) -> None:
    """In both themes, with the list of keys, and on a phone with everything unfolded."""
    await page.open(f"{api.base_url}{address.format(waves=waves)}")
    for theme in ("light", "dark"):
        await page.send("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": theme}])
        await page.until(SCREENS[address])
        assert await faults_of_access(page) == [], theme
        await page.key("?", "?")
        await page.until("document.querySelector('dialog[open]')")
        assert await faults_of_access(page) == [], theme
        await page.click("dialog header button")
        await page.until("!document.querySelector('dialog[open]')")
    assert await page.violations() == []
    await page.resize(390, 844, scale=2, mobile=True)
    await page.open(f"{api.base_url}{address.format(waves=waves)}")
    await page.until(SCREENS[address])
    assert await page.run("document.documentElement.scrollWidth") == 390
    await page.until(IS_LINK_VISIBLE)
    await page.run("document.querySelectorAll('details').forEach(each => { each.open = true; })")
    await page.until("[...document.querySelectorAll('details')].every(each => each.children.length > 1)")
    assert await page.run("document.documentElement.scrollWidth") == 390
    assert await faults_of_access(page) == []
    assert page.hosts == {urlsplit(str(api.base_url)).netloc}


@pytest.mark.parametrize("theme", ["light", "dark"])
async def test_the_lines_have_their_colours(page: Page, api: httpx.AsyncClient, waves: int, theme: str) -> None:
    """And change them with the theme: a canvas does not by itself."""
    await page.open(f"{api.base_url}{WAVES.format(waves=waves)}")
    await page.until(SCREENS[WAVES])
    await page.run(
        f"(select => {{ select.value = '{theme}'; select.dispatchEvent(new Event('change', {{bubbles: true}})); }})"
        "(document.querySelector('.tools select'))"
    )
    for pane in range(3):
        assert await pixels(page, pane, f"line-{pane}") > 300, pane
        assert await pixels(page, pane, f"line-{(pane + 1) % 3}") < 50, pane


async def test_a_gap_is_drawn_as_a_gap(page: Page, api: httpx.AsyncClient, waves: int) -> None:
    """The device has no readings from 40 to 60 per cent of the period."""
    await page.open(f"{api.base_url}{WAVES.format(waves=waves)}")
    await page.until(SCREENS[WAVES])
    for pane in range(3):
        assert await pixels(page, pane, f"line-{pane}", 0.47, 0.57) == 0
        assert await pixels(page, pane, f"line-{pane}", 0.1, 0.4) > 100
        assert await pixels(page, pane, "gap", 0.47, 0.57) > 1000


async def test_the_fixture_finds_requests_that_fail(page: Page, api: httpx.AsyncClient) -> None:
    await page.open(str(api.base_url))
    await page.run("fetch('/devices/77')")

    async def unexpected() -> list[str]:
        return page.unexpected

    (fault,) = await eventually(unexpected, bool)
    assert "404" in fault
    assert fault.endswith("/devices/77")
    page.expect(404, "/devices/7")
    assert page.unexpected == [fault]
    page.expect(404, "/devices")
    assert page.unexpected == []


async def test_a_page_without_scripts_says_what_it_needs(api: httpx.AsyncClient, page: Page) -> None:
    await page.send("Emulation.setScriptExecutionDisabled", value=True)
    await page.send("Page.navigate", url=str(api.base_url))
    await page.until("document.querySelector('.no-script')?.innerText.includes('needs JavaScript')")
    await page.send("Emulation.setScriptExecutionDisabled", value=False)
    await page.open(str(api.base_url))
