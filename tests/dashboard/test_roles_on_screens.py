"""Every screen as each role, as nobody, and with AUTH off: what it shows, and what it does not."""

import asyncio
import re
from collections.abc import AsyncIterator
from urllib.parse import quote, urlsplit

import httpx
import msgspec
import pytest

from query_api.access.rules import Permission, permissions_of
from query_api.dashboard import shell
from shared.access.credentials import Role
from shared.postgres.connections import Connection as Database
from shared.settings import Settings
from tests import chromium, services
from tests.browser import Page
from tests.credentials import Keys, bearer, keys
from tests.dashboard.roles import sign_in
from tests.letters import FOUR, keep

pytestmark = [chromium.needs_chromium]


class Screen(msgspec.Struct, frozen=True):
    """A screen: its path, what a role needs to open it, an expression that is true when it shows its content.

    `acts`: a selector of the controls that change something, which need the permission `acting`.
    """

    path: str
    permission: Permission
    shows: str
    acts: str = ".none"
    acting: Permission = Permission.ADMINISTER


QUEUE = ".title .primary"
SCREENS = [
    Screen("/", Permission.READ, "document.querySelector('.devices tbody tr')", ".title .primary"),
    Screen("/ui/devices/1", Permission.READ, "document.querySelector('time-plot canvas')"),
    Screen("/ui/live?device=1", Permission.READ, "document.querySelector('.live-state .on')"),
    Screen("/ui/compare?device=1", Permission.READ, "document.querySelector('.compared')"),
    Screen("/ui/analyses", Permission.READ, "document.querySelector('.filters')", QUEUE, Permission.QUEUE),
    Screen("/ui/schedules", Permission.READ, "document.querySelector('.notice:not(.bad)')", QUEUE, Permission.QUEUE),
    Screen("/ui/health", Permission.READ, "document.querySelector('.processes tbody tr')"),
    Screen("/ui/refused?from=2026-01-31&to=now", Permission.ADMINISTER, "document.querySelector('.letters')", ".acts"),
    Screen("/ui/keys", Permission.ADMINISTER, "document.querySelector('.access-keys')", ".title .primary"),
]
"""One line for each screen but that for signing in."""
ROLES = [Role.ADMIN, Role.ANALYST, Role.WRITER]
_HOLDER = {Role.ADMIN: "an admin key", Role.ANALYST: "an analyst key", Role.WRITER: "a writer key"}
_LINKS = "[...document.querySelectorAll('.top nav a')].map(each => each.pathname)"


def test_every_screen_has_a_line() -> None:
    assert len(SCREENS) == len(shell.SCREENS) - 1


@pytest.fixture
async def known(database: Database, database_url: str) -> Keys:
    """A key of each role, in a database with dead letters."""
    await keep(database_url, FOUR)
    return await keys(database)


@pytest.fixture
async def closed(api_settings: Settings, known: Keys) -> AsyncIterator[httpx.AsyncClient]:
    """An admin's client of an API that asks for keys, with a device that has a reading."""
    async with services.api(msgspec.structs.replace(api_settings, auth="on")) as client:
        client.headers.update(bearer(known.admin))
        await fill(client)
        yield client


async def fill(client: httpx.AsyncClient) -> None:
    await client.post("/devices", json={"name": "Boiler, north"})
    assert (await client.post("/stats", json={"device_id": 1, "x": 1, "y": 2, "z": 3})).status_code == 201


@pytest.mark.parametrize("role", ROLES)
async def test_a_role_sees_its_screens_and_the_others_say_what_they_require(
    page: Page, closed: httpx.AsyncClient, known: Keys, role: Role
) -> None:
    await sign_in(page, closed, getattr(known, role))
    may = permissions_of(role)
    for screen in SCREENS:
        if screen.permission in may:
            await shows(page, closed, screen)
            await page.until("document.querySelector('.caller')")
            if screen.acting in may:
                await offers_its_acts(page, screen)
            else:
                assert await page.run(f"document.querySelector({screen.acts!r})") is None, screen.path
        else:
            await says_what_it_requires(page, closed, screen, role)


async def shows(page: Page, client: httpx.AsyncClient, screen: Screen) -> None:
    await page.open(f"{client.base_url}{screen.path}")
    await page.until(screen.shows)
    assert await page.run("document.querySelector('main .notice.bad')") is None


async def offers_its_acts(page: Page, screen: Screen) -> None:
    if screen.acts != ".none":
        await page.until(f"document.querySelector({screen.acts!r})")


async def says_what_it_requires(page: Page, client: httpx.AsyncClient, screen: Screen, role: Role) -> None:
    page.expect(403, "")
    await page.open(f"{client.base_url}{screen.path}")
    text = await page.text("main .notice.bad")
    assert "this requires an admin key" in text
    assert f"not {_HOLDER[role]}" in text
    assert "Try again" not in text
    assert not await page.run(screen.shows + " ? true : false")
    assert await page.run(f"document.querySelector({screen.acts!r})") is None


@pytest.mark.parametrize(
    ("role", "screen"), [(Role.ANALYST, SCREENS[-1]), (Role.ANALYST, SCREENS[-2]), (Role.WRITER, SCREENS[0])]
)
async def test_a_screen_that_the_role_may_not_open_asks_no_more(
    page: Page, closed: httpx.AsyncClient, known: Keys, role: Role, screen: Screen
) -> None:
    await sign_in(page, closed, getattr(known, role))
    await page.hurry(50)
    await says_what_it_requires(page, closed, screen, role)
    await asyncio.sleep(0.5)  # the next read may have been planned before
    asked = len(page.asked)
    await asyncio.sleep(1)
    assert [url for url in page.asked[asked:] if urlsplit(url).path != "/session"] == []


@pytest.mark.parametrize("role", ROLES)
async def test_the_links_are_those_that_the_role_may_open(
    page: Page, closed: httpx.AsyncClient, known: Keys, role: Role
) -> None:
    page.expect(403, "/devices")
    await sign_in(page, closed, getattr(known, role))
    await page.open(str(closed.base_url))
    await page.until("document.querySelector('.caller')")
    links = set(await page.run(_LINKS))
    allowed = {screen.path.partition("?")[0] for screen in SCREENS if screen.permission in permissions_of(role)}
    assert links == {path for path in allowed if not path.startswith("/ui/devices/")}


@pytest.mark.parametrize("screen", SCREENS, ids=lambda screen: screen.path.partition("?")[0])
async def test_nobody_is_led_to_sign_in_and_back(
    page: Page, closed: httpx.AsyncClient, known: Keys, screen: Screen
) -> None:
    page.expect(401, "")
    await page.open(f"{closed.base_url}{screen.path}")
    await page.until("document.querySelector('.sign-in')")
    assert await page.run("location.pathname") == "/ui/sign-in"
    assert await page.run("document.querySelector('.notice')") is None
    await page.fill(".sign-in input", known.admin)
    await page.click(".sign-in button")
    await page.until(screen.shows)
    assert (await page.run("location.pathname + location.search")).startswith(screen.path)


async def test_while_auth_is_off_everybody_sees_everything(page: Page, api: httpx.AsyncClient, known: Keys) -> None:
    assert known
    await fill(api)
    for screen in SCREENS:
        await shows(page, api, screen)
        await offers_its_acts(page, screen)
        assert await page.run("document.querySelector('.caller')") is None
    assert len(await page.run(_LINKS)) == len(SCREENS) - 1


async def type_key(page: Page, text: str) -> str:
    """Type a text as the key, and return the refusal."""
    await page.fill(".sign-in input", text)
    await page.click(".sign-in button")
    await page.until("!document.querySelector('.sign-in button').disabled")
    return await page.text(".sign-in .notice.bad")


async def test_a_token_of_a_device_cannot_sign_in(page: Page, closed: httpx.AsyncClient) -> None:
    token = (await closed.post("/devices", json={"name": "n"})).json()["token"]
    page.expect(401, "/session")
    await page.open(f"{closed.base_url}/ui/sign-in?next={quote('/ui/keys')}")
    assert "a device's token cannot sign in: use an access key" in await type_key(page, token)
    assert await page.run("location.pathname") == "/ui/sign-in"


async def test_too_many_attempts_say_when_to_try_again(page: Page, closed: httpx.AsyncClient, known: Keys) -> None:
    page.expect(401, "/session")
    page.expect(429, "/session")
    for _ in range(25):
        await closed.post("/session", json={"key": known.unknown})
    await page.open(f"{closed.base_url}/ui/sign-in")
    refusal = await type_key(page, known.unknown)
    assert re.search(
        r"20 attempts to sign in from this address were refused in a minute: retry in \d+ seconds", refusal
    )
