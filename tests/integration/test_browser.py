"""Pages of other origins in a real browser, on the machine of an API that asks for no key (ADR 33)."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import msgspec
import pytest

from shared.postgres.connections import Connection as Database
from shared.settings import Settings
from tests import chromium, services

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

    def __init__(self, page: str) -> None:
        self._page = page.encode()
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
        writer.write(b"Connection: close\r\n\r\n" + page)
        await writer.drain()
        writer.close()


@asynccontextmanager
async def told_by_page(profile: Path, host: str, api: httpx.AsyncClient, device: int) -> AsyncIterator[dict[str, str]]:
    """What the page has met, which is served by another port and visited at the host's name."""
    site = Site(PAGE.replace("API", str(api.base_url).rstrip("/")).replace("DEVICE", str(device)))
    server = await asyncio.start_server(site.answer, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        with chromium.visiting(profile, f"http://{host}:{port}/"):
            async with asyncio.timeout(RESULTS_WITHIN_S):
                told = await site.told
        yield told


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_a_page_of_another_origin_changes_nothing(
    api: httpx.AsyncClient, device: int, database: Database, tmp_path: Path, host: str
) -> None:
    """127.0.0.1 at another port is the same site, and localhost another one."""
    async with told_by_page(tmp_path, host, api, device) as told:
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


async def test_a_page_that_the_settings_name_may(api_settings: Settings, tmp_path: Path) -> None:
    settings = msgspec.structs.replace(api_settings, cors_origins="*")
    async with services.api(settings) as api:
        device = (await api.post("/devices", json={"name": "Boiler, north"})).json()["id"]
        async with told_by_page(tmp_path, "127.0.0.1", api, device) as told:
            assert (told["JSON device"], told["deleted device"]) == ("cors 201", "cors 204")
            assert told["read devices"] == "cors 200"
        assert [found["name"] for found in (await api.get("/devices")).json()] == ["JSON"]


async def test_a_name_that_was_made_to_lead_here_shows_nothing(
    api: httpx.AsyncClient, device: int, tmp_path: Path
) -> None:
    port = api.base_url.port
    rebound = "--host-resolver-rules=MAP rebound.test 127.0.0.1"
    page = await asyncio.to_thread(chromium.shown, tmp_path, f"http://rebound.test:{port}/devices", rebound)
    assert "421" in page
    assert "Boiler" not in page
    assert device
    own = await asyncio.to_thread(chromium.shown, tmp_path, f"http://localhost:{port}/devices")
    assert "Boiler" in own
