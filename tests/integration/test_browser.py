"""Pages of other origins in a real browser: on the machine of an API that asks for no key (ADR 33), and with the
session of the browser (ADR 45).
"""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import msgspec
import pytest

from shared.access.credentials import Role
from shared.postgres.connections import Connection as Database
from shared.settings import Settings
from tests import chromium, services
from tests.browser import Browser
from tests.credentials import bearer, key
from tests.sign_in import sign_in

pytestmark = [chromium.needs_chromium]
RESULTS_WITHIN_S = 90

# What a page can send without a question to the service (https://fetch.spec.whatwg.org/#cors-safelisted-method), a
# form that it submits, and what it cannot send without one.
PAGE = """\
<!DOCTYPE html><title>another site</title>
<iframe name="hidden"></iframe>
<form id="form" method="post" target="hidden" enctype="text/plain" action="API/devices">
<input name='{"name": "by a form", "x": "' value='"}'></form>
<script>
const reading = JSON.stringify({device_id: DEVICE, x: 1, y: 2, z: 3});
const attempts = {
  "untyped device": ["/devices", {method: "POST", mode: "no-cors", body: new Blob(['{"name": "untyped"}'])}],
  "plain device": ["/devices", {method: "POST", mode: "no-cors", body: '{"name": "plain"}'}],
  "untyped reading": ["/stats", {method: "POST", mode: "no-cors", body: new Blob([reading])}],
  "rotated token": ["/devices/DEVICE/token", {method: "POST", mode: "no-cors"}],
  "queued analysis": ["/stats/analysis/DEVICE/async", {method: "POST", mode: "no-cors"}],
  "JSON device": ["/devices", {method: "POST", headers: {"Content-Type": "application/json"},
                               body: '{"name": "JSON"}'}],
  "deleted device": ["/devices/DEVICE", {method: "DELETE"}],
  "read devices": ["/devices", {}],
};
async function attack() {
  const told = {};
  for (const [name, [path, options]] of Object.entries(attempts)) {
    told[name] = await fetch("API" + path, options).then(r => r.type + " " + r.status, e => "blocked");
  }
  const answered = new Promise(done => document.querySelector("iframe").addEventListener("load", done));
  document.getElementById("form").submit();
  await answered;
  await fetch("/told", {method: "POST", body: JSON.stringify(told)});
}
attack();
</script>
"""


class Site:
    """A web server of another origin: it serves one page, and hears what became of the page's attempts."""

    def __init__(self, page: str, cookie: str | None = None) -> None:
        """`cookie`: the Set-Cookie of its answers. Cookies do not distinguish the ports of a host."""
        self._page = page.encode()
        self._cookie = f"Set-Cookie: {cookie}\r\n".encode() if cookie else b""
        self.told: asyncio.Future[dict[str, str]] = asyncio.get_running_loop().create_future()

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One request."""
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError:  # a connection that was made for later
            writer.close()
            return
        page = self._page if head.startswith(b"GET / ") else b""
        if head.startswith(b"POST /told "):
            length = next(int(line[15:]) for line in head.lower().splitlines() if line.startswith(b"content-length:"))
            self.told.set_result(json.loads(await reader.readexactly(length)))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: %d\r\n" % len(page))
        writer.write(self._cookie + b"Connection: close\r\n\r\n" + page)
        await writer.drain()
        writer.close()


@asynccontextmanager
async def told_by_page(
    browser: Browser, host: str, api: httpx.AsyncClient, device: int, page: str = PAGE, cookie: str | None = None
) -> AsyncIterator[dict[str, str]]:
    """What the page has met, which is served by another port and visited at the host's name."""
    site = Site(page.replace("API", str(api.base_url).rstrip("/")).replace("DEVICE", str(device)), cookie)
    server = await asyncio.start_server(site.answer, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        async with browser.page() as tab, asyncio.timeout(RESULTS_WITHIN_S):
            await tab.open(f"http://{host}:{port}/")
            told = await site.told
        yield told


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_a_page_of_another_origin_changes_nothing(
    api: httpx.AsyncClient, device: int, database: Database, running_browser: Browser, host: str
) -> None:
    """127.0.0.1 at another port is the same site, and localhost another one."""
    async with told_by_page(running_browser, host, api, device) as told:
        assert told == {
            "untyped device": "opaque 0", "plain device": "opaque 0", "untyped reading": "opaque 0",
            "rotated token": "opaque 0", "queued analysis": "opaque 0",
            "JSON device": "blocked", "deleted device": "blocked", "read devices": "blocked",
        }  # fmt: skip
    (only,) = (await api.get("/devices")).json()
    assert (only["id"], only["name"], only["readings"]) == (device, "Boiler, north", 0)
    assert (await api.get("/stats/analysis/requests")).json() == []
    written = await database.execute("SELECT action FROM audit_log")
    assert await written.fetchall() == [("device.created",)]


async def test_a_page_that_the_settings_name_may(api_settings: Settings, running_browser: Browser) -> None:
    settings = msgspec.structs.replace(api_settings, cors_origins="*")
    async with services.api(settings) as api:
        device = (await api.post("/devices", json={"name": "Boiler, north"})).json()["id"]
        async with told_by_page(running_browser, "127.0.0.1", api, device) as told:
            assert (told["JSON device"], told["deleted device"]) == ("cors 201", "cors 204")
            assert told["read devices"] == "cors 200"
        assert [found["name"] for found in (await api.get("/devices")).json()] == ["JSON"]


async def test_a_name_that_was_made_to_lead_here_shows_nothing(
    api: httpx.AsyncClient, device: int, running_browser: Browser
) -> None:
    async with running_browser.page() as tab:
        await tab.open(f"http://{chromium.REBOUND_HOST}:{api.base_url.port}/devices")
        shown = await tab.text("body")
        assert "421" in shown
        assert "Boiler" not in shown
        assert device
        await tab.open(f"http://localhost:{api.base_url.port}/devices")
        assert "Boiler" in await tab.text("body")


WITH_SESSION = (
    PAGE.replace("fetch(\"API\" + path, options)", "fetch(\"API\" + path, {credentials: \"include\", ...options})")
    .replace('"read devices":', """"signed out": ["/session", {method: "POST", mode: "no-cors", body: '{"key": "x"}'}],
  "new key": ["/keys", {method: "POST", mode: "no-cors", body: new Blob(['{"role": "admin"}'])}],
  "purged": ["/dead-letters?everything=true", {method: "DELETE"}],
  "read devices":""")
)  # fmt: skip


async def test_a_page_of_another_port_does_nothing_with_the_session_of_the_browser(
    api_settings: Settings, database: Database, running_browser: Browser
) -> None:
    """SameSite does not keep the cookie from it: another port of a host is the same site."""
    settings = msgspec.structs.replace(api_settings, auth="on")
    admin = await key(database, Role.ADMIN)
    async with services.api(settings) as api:
        device = (await api.post("/devices", json={"name": "Boiler, north"}, headers=bearer(admin))).json()["id"]
        session = await sign_in(api, admin)
        kept = f"{session['Cookie']}; Path=/; HttpOnly; SameSite=Strict; Max-Age=3600"
        async with told_by_page(running_browser, "127.0.0.1", api, device, WITH_SESSION, kept) as told:
            assert {name: what for name, what in told.items() if what != "opaque 0"} == {
                "JSON device": "blocked", "deleted device": "blocked", "purged": "blocked", "read devices": "blocked",
            }  # fmt: skip
        counted = (await api.get("/metrics", headers=session)).text
        assert (
            'requests_total{method="POST",route="/keys",status="403"} 1.0' in counted
        )  # and not 401: it had the cookie
        assert 'requests_total{method="POST",route="/devices",status="403"} 3.0' in counted
        assert 'requests_total{method="GET",route="/devices",status="200"} 1.0' in counted  # which the page cannot read
        (only,) = (await api.get("/devices", headers=session)).json()
        assert (only["name"], only["readings"]) == ("Boiler, north", 0)
        assert len((await api.get("/keys", headers=session)).json()) == 1
