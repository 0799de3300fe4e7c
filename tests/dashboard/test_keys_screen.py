"""Access keys and the audit log in Chromium."""

import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import httpx
import msgspec
import pytest

from query_api.dashboard.assets import FOLDER
from shared.access import keys as access_keys
from shared.access.audit import Action
from shared.access.credentials import Role
from shared.postgres.connections import Connection as Database
from shared.settings import Settings
from tests import chromium, services
from tests.browser import Page
from tests.credentials import TESTER, bearer
from tests.dashboard.roles import sign_in

pytestmark = [chromium.needs_chromium]
PREFIX = 12
ROWS = "[...document.querySelectorAll('.access-keys tbody tr')].map(each => each.innerText)"
SHOWN = "document.querySelector('.access-keys tbody tr') && document.querySelector('.audit tbody tr')"
SECRET = "document.querySelector('dialog .copy pre')?.innerText"


@pytest.fixture
async def admin(database: Database) -> str:
    """An admin key."""
    return (await access_keys.create(database, TESTER, Role.ADMIN, "Ada", None)).text


@pytest.fixture
async def closed(page: Page, api_settings: Settings, admin: str) -> AsyncIterator[httpx.AsyncClient]:
    """A client of an API that asks for keys. The page is signed in with the admin key, and shows the keys."""
    async with services.api(msgspec.structs.replace(api_settings, auth="on")) as client:
        client.headers.update(bearer(admin))
        await sign_in(page, client, admin)
        await page.open(f"{client.base_url}/ui/keys?tz=UTC")
        await page.until(SHOWN)
        yield client


async def button(page: Page, label: str, within: str = "main") -> None:
    """Click the button whose name or text begins so, when no dialog is open or, `within` one, when it is."""
    name = await page.until(
        f"(document.querySelector('dialog[open]') !== null) === {str(within == 'dialog').lower()} && "
        "(found => found && (found.id ||= 'b' + Math.random().toString(36).slice(2)))([..."
        f"document.querySelectorAll('{within} button')].find(each => "
        f"(each.ariaLabel ?? each.innerText).startsWith({label!r})))"
    )
    await page.click(f"#{name}")


def test_the_actions_are_those_of_the_audit_log() -> None:
    script = (FOLDER / "static" / "screens" / "keys" / "audit.js").read_text()
    found = re.search(r'ACTIONS =\s+"([^"]+)"', script)
    assert found is not None
    assert found[1].split() == list(Action)


async def test_a_key_is_created_and_its_secret_is_shown_once(page: Page, closed: httpx.AsyncClient) -> None:
    await page.key("n", "n")
    await page.until("document.activeElement?.matches('dialog input[name=name]')")
    await page.fill("dialog input[name=name]", "<b>CI</b>")
    await page.click("dialog input[value=writer]")
    await page.run("document.querySelector('dialog [name=expires]').value = 'now+30d'")
    await button(page, "Create", "dialog")
    secret = await page.until(SECRET)
    made = (await closed.get(f"/keys/{secret[:PREFIX]}")).json()
    assert (made["role"], made["name"], made["state"]) == ("writer", "<b>CI</b>", "valid")
    in_days = (datetime.fromisoformat(made["expires_at"]) - datetime.now(UTC)) / timedelta(days=1)
    assert 29.9 < in_days <= 30.1
    assert (await closed.get("/session", headers=bearer(secret))).json()["role"] == "writer"
    await button(page, "Close", "dialog")
    rows = await page.until(f"!document.querySelector('dialog') && ({ROWS}).length === 2 && {ROWS}")
    assert "<b>CI</b>" in rows[0]
    assert secret not in await page.run("document.documentElement.outerHTML + JSON.stringify(localStorage)")
    assert "key.created" in await page.text(".audit tbody tr:first-child")


async def test_a_refused_key_says_why(page: Page, closed: httpx.AsyncClient) -> None:
    assert closed
    page.expect(422, "/keys")
    await page.key("n", "n")
    await page.fill("dialog input[name=name]", "a\u202eb")
    await button(page, "Create", "dialog")
    assert "printable characters" in await page.text("dialog .notice.bad")


async def test_a_key_is_rotated_with_an_overlap(page: Page, closed: httpx.AsyncClient, database: Database) -> None:
    old = await access_keys.create(database, TESTER, Role.ANALYST, "Reports", None)
    await page.key("r", "r")
    await button(page, f"Rotate {old.prefix}")
    await page.until("document.querySelector('dialog [name=grace]')")
    await page.run("document.querySelector('dialog [name=grace]').value = '86400'")
    await button(page, "Rotate", "dialog")
    new = await page.until(SECRET)
    assert (await closed.get("/devices", headers=bearer(new))).status_code == 200
    assert (await closed.get("/devices", headers=bearer(old.text))).status_code == 200
    shown = (await closed.get(f"/keys/{old.prefix}")).json()
    assert timedelta(hours=23) < datetime.fromisoformat(shown["expires_at"]) - datetime.now(UTC) < timedelta(days=1)
    assert shown["name"] == "Reports"


async def test_the_own_key_is_rotated_with_an_overlap_only_and_not_revoked(
    page: Page, closed: httpx.AsyncClient, admin: str
) -> None:
    assert "yours" in (await page.run(ROWS))[0]
    await button(page, f"Revoke {admin[:PREFIX]}")
    assert "It cannot revoke itself" in await page.text("dialog")
    assert await page.run("document.querySelector('dialog .danger')") is None
    await page.click("dialog header button")
    await button(page, f"Rotate {admin[:PREFIX]}")
    await page.until("document.querySelector('dialog [name=grace]')")
    graces = await page.run("[...document.querySelectorAll('dialog [name=grace] option')].map(each => each.value)")
    assert "" not in graces
    await button(page, "Rotate", "dialog")
    assert (await page.until(SECRET)).startswith("dsk_")
    assert (await closed.get("/devices")).status_code == 200


async def test_revoking_says_what_stops_and_stops_it(page: Page, closed: httpx.AsyncClient, database: Database) -> None:
    other = await access_keys.create(database, TESTER, Role.WRITER, "Gateway", None)
    await page.key("r", "r")
    await button(page, f"Revoke {other.prefix}")
    text = await page.text("dialog")
    assert "Gateway (writer) may store readings of all devices over HTTP. It was never used." in text
    assert "all programs that send this key are refused" in text
    await button(page, "Cancel", "dialog")
    assert (await closed.get(f"/keys/{other.prefix}")).json()["state"] == "valid"
    await button(page, f"Revoke {other.prefix}")
    await button(page, "Revoke", "dialog")
    await page.until(f"!document.querySelector('dialog') && ({ROWS}).length === 1")
    assert (await closed.get(f"/keys/{other.prefix}")).json()["state"] == "revoked"
    await page.click(".choice label:last-child input")
    rows = await page.until(f"({ROWS}).length === 2 && {ROWS}")
    assert "revoked 20" in rows[0]
    assert "state=all" in await page.run("location.search")


async def test_the_audit_log_is_filtered_in_the_address(page: Page, closed: httpx.AsyncClient, admin: str) -> None:
    for number in range(130):
        await closed.post("/devices", json={"name": f"n{number}"})
    entries = "[...document.querySelectorAll('.audit tbody tr')].map(each => each.innerText)"
    await page.open(f"{closed.base_url}/ui/keys?tz=Asia/Tokyo&actor={admin[:PREFIX]}&action=device.created")
    await page.until(f"({entries}).length === 100")
    heights = "[...document.querySelectorAll('.audit tbody tr')].map(each => each.clientHeight)"
    assert max(await page.run(heights)) < 50  # the key and the name are on one line
    assert "Time (Asia/Tokyo)" in await page.text(".audit thead")
    await page.click(".audit a[rel=next]")
    await page.until(f"({entries}).length === 30")
    assert {row.split("\t")[1] for row in await page.run(entries)} == {"device.created"}
    await page.run("history.back()")
    await page.until(f"({entries}).length === 100")
    await page.run(
        "(select => { select.value = 'session.created'; select.dispatchEvent(new Event('change')); })"
        "(document.querySelector('select[name=action]'))"
    )
    await page.until(f"({entries}).length === 1")
    await page.open(f"{closed.base_url}/ui/keys?from=2020-01-01&to=2020-01-02")
    await page.until("document.querySelector('.audit')?.innerText.includes('No entry meets these conditions.')")


async def test_a_revoked_key_ends_the_sessions_of_the_page(
    page: Page, closed: httpx.AsyncClient, admin: str, database: Database
) -> None:
    other = await access_keys.create(database, TESTER, Role.ADMIN, "Grace", None)
    page.expect(401, "")
    assert (await closed.delete(f"/keys/{admin[:PREFIX]}", headers=bearer(other.text))).status_code == 200
    await page.until("location.pathname === '/ui/sign-in' && document.querySelector('.sign-in')")
    assert "You were signed out. the session has ended, or its key was revoked" in await page.text(".sign-in")
    await page.fill(".sign-in input", other.text)
    await page.click(".sign-in button")
    await page.until(SHOWN)
    assert await page.run("location.pathname + location.search") == "/ui/keys?tz=UTC"
