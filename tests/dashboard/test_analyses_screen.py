"""The screen Analyses in Chromium, with a real worker: queued, running, done, failed, retried, cancelled."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import msgspec
import pytest

from query_api.worker.tuning import Tuning
from shared.postgres.connections import connect
from shared.settings import Settings
from tests import chromium, services
from tests.browser import Page
from tests.conftest import Database
from tests.credentials import bearer, keys
from tests.dashboard.conftest import shown
from tests.dashboard.test_screens import faults_of_access
from tests.dashboard.test_sign_in_screen import sign_in
from tests.integration.test_retries_of_analyses import REASON, fail_one

pytestmark = [chromium.needs_chromium]
REQUESTS = "/stats/analysis/requests"
QUICK = Tuning(poll_s=0.1, jitter_s=0.1)
ROWS = "[...document.querySelectorAll('.analyses tbody tr')].map(row => row.innerText.replace(/\\s+/g, ' ').trim())"


async def show(page: Page, api: httpx.AsyncClient, query: str = "") -> None:
    await page.open(f"{api.base_url}/ui/analyses?tz=UTC{query}")
    await page.until("document.querySelector('.analyses tbody tr, .notice')")


async def status_is(page: Page, status: str) -> None:
    """Wait until the first analysis of the list has the status."""
    await page.until(f"document.querySelector('.analyses .status')?.innerText === '{status}'")


async def choose(page: Page, name: str) -> None:
    """Choose a device in the dialog."""
    await page.fill("dialog .combobox input", name)
    await page.until(f"document.querySelector('[role=option]')?.innerText.startsWith('{name}')")
    await page.click("[role=option]")


@asynccontextmanager
async def held_readings(url: str) -> AsyncIterator[None]:
    """Let analyses wait for the readings during the block."""
    async with await connect(url, "lock") as lock, lock.transaction():
        await lock.execute("LOCK TABLE readings IN ACCESS EXCLUSIVE MODE")
        yield


async def test_an_analysis_is_queued_and_runs_and_has_a_result(
    page: Page, api: httpx.AsyncClient, waves: int, api_settings: Settings, database_url: str
) -> None:
    await show(page, api)
    assert "No analysis was queued yet" in await page.text(".notice")
    await page.key("n", "n")
    await choose(page, "Waves")
    await page.fill("#field-from", "2026-01-31")
    await page.fill("#field-to", "2026-01-31")
    await page.click("dialog input[value=mean]")
    await page.fill("#field-percentiles", "95")
    await page.click("dialog .primary")
    await status_is(page, "Waiting")
    assert await page.run("document.querySelector('dialog') === null")
    async with services.worker(api_settings, QUICK):
        async with held_readings(database_url):
            await status_is(page, "Running")
        await status_is(page, "Done")
    (row,) = await page.run(ROWS)
    assert row.startswith("Waves 2026-01-31 mean, p95 Done in ")
    (request,) = (await api.get(REQUESTS)).json()
    assert (request["start"], request["end"]) == ("2026-01-31T00:00:00.000000Z", "2026-01-31T23:59:59.999999Z")
    await page.click(".analyses .actions a")
    cells = await page.until(
        "(cells => cells.length && cells)([...document.querySelectorAll('dialog tbody tr')].map("
        "row => [...row.cells].map(cell => cell.innerText)))"
    )
    x = request["result"]["x"]
    found = {name: float(value.replace(",", "")) for name, value, *_ in cells}
    assert found == {
        **{name: x[name] for name in ("min", "median", "max", "sum", "count", "mean")},
        "p95": found["p95"],
    }
    assert found["p95"] == x["percentiles"]["p95"]
    assert f"request={request['id']}" in await page.run("location.search")
    await page.run("history.back()")
    await page.until("!document.querySelector('dialog')")
    await page.run("history.forward()")
    await page.click("dialog .dialog-body a.button")
    await page.until("document.querySelector('h1').innerText === 'Waves'")
    assert (
        await page.run("location.search") == "?from=2026-01-31T00:00:00.000000Z&to=2026-01-31T23:59:59.999999Z&tz=UTC"
    )
    await page.until("document.querySelector('time-plot canvas')")


async def test_a_failed_analysis_says_why_and_is_retried(
    page: Page, api: httpx.AsyncClient, device: int, database: Database, api_settings: Settings
) -> None:
    await api.post(f"/stats/analysis/{device}/async")
    await fail_one(database)
    await show(page, api, "&status=failed")
    (row,) = await page.run(ROWS)
    assert REASON in row
    await page.until("document.querySelector('.filters [aria-current]').innerText.split(/\\s+/).join() === 'Failed,1'")
    await page.click(".actions button")
    await page.until("document.querySelector('.notice')?.innerText === 'No analysis is in this list.'")
    await page.click(".filters a")
    await status_is(page, "Waiting")
    async with services.worker(api_settings, QUICK):
        await status_is(page, "Done")


async def test_a_refused_retry_is_told_in_the_words_of_the_api(
    page: Page, api: httpx.AsyncClient, device: int, database: Database
) -> None:
    number = (await api.post(f"/stats/analysis/{device}/async")).json()["id"]
    await fail_one(database)
    await show(page, api)
    await database.execute("UPDATE analysis_requests SET status = 'done'")
    refusal = (await api.post(f"{REQUESTS}/{number}/retry")).json()
    page.expect(409, f"{REQUESTS}/{number}/retry")
    await page.click(".actions button")
    assert refusal["detail"] in await page.text(".notice.bad")
    await status_is(page, "Done")


async def test_a_waiting_analysis_is_cancelled(page: Page, api: httpx.AsyncClient, device: int) -> None:
    await api.post(f"/stats/analysis/{device}/async")
    await show(page, api)
    await page.click(".actions button")
    await status_is(page, "Cancelled")
    assert [request["status"] for request in (await api.get(REQUESTS)).json()] == ["cancelled"]
    assert await page.text(".actions button") == "Retry"


async def test_wrong_values_are_marked_at_their_fields(page: Page, api: httpx.AsyncClient, device: int) -> None:
    await show(page, api, f"&device={device}")
    await page.key("n", "n")
    await page.click("dialog .form-field .small")  # the device of the address
    await page.click("dialog .primary")
    assert await page.text("dialog .fault") == "Choose a device."
    await choose(page, "Boiler")
    await page.fill("#field-from", "yesterday")
    await page.click("dialog .primary")
    await page.until("document.querySelector('#about-from.fault')?.innerText.includes('got \"yesterday\"')")
    page.expect(400, f"/stats/analysis/{device}/async")
    await page.fill("#field-from", "now")
    await page.fill("#field-to", "now-1h")
    await page.click("dialog .primary")
    await page.until("document.querySelector('#about-from.fault')?.innerText.includes('is after end')")
    await page.fill("#field-to", "")
    await page.fill("#field-percentiles", "p200")
    refusal = (await api.post(f"/stats/analysis/{device}/async", params={"figures": "p200"})).json()
    page.expect(422, f"/stats/analysis/{device}/async")
    await page.click("dialog .primary")
    await page.until("document.querySelector('#about-percentiles.fault')")
    assert await page.text("#about-percentiles") == refusal["errors"][0]["detail"]
    assert await page.run("document.querySelector('#field-percentiles').ariaInvalid") == "true"
    assert (await api.get(REQUESTS)).json() == []
    await page.fill("#field-percentiles", "")
    await page.click("dialog .primary")
    await page.until("!document.querySelector('dialog')")
    assert len((await api.get(REQUESTS)).json()) == 1


async def test_several_devices_are_queued_at_once(page: Page, api: httpx.AsyncClient, device: int) -> None:
    other = (await api.post("/devices", json={"name": "Pump 2"})).json()["id"]
    await show(page, api)
    await page.key("n", "n")
    await choose(page, "Boiler")
    await choose(page, "Pump")
    await page.click("dialog .primary")
    await page.until(f"({ROWS}).length === 2")
    assert {request["device_id"] for request in (await api.get(REQUESTS)).json()} == {device, other}


async def test_many_analyses_are_on_pages(page: Page, api: httpx.AsyncClient, device: int, database: Database) -> None:
    await database.execute(
        "INSERT INTO analysis_requests (device_id, period, status, finished_at) SELECT %s, '[,]', "
        "CASE WHEN n %% 2 = 0 THEN 'done' ELSE 'cancelled' END, now() FROM generate_series(1, 230) AS n",
        (device,),
    )
    await show(page, api)
    await page.until("document.querySelector('.filters').innerText.split(/\\s+/).join().includes('Done,115')")
    await page.until(f"({ROWS}).length === 50")
    await page.click("a[rel=next]")
    await page.until("location.search.includes('cursor=') && document.querySelectorAll('.pages a').length === 2")
    await page.run("history.back()")
    await page.until("!location.search.includes('cursor=') && document.querySelectorAll('.pages a').length === 1")
    await page.click(".filters a:nth-child(4)")
    await page.until(f"({ROWS}).every(row => row.includes('Done'))")
    for _ in range(2):
        before = await page.run("document.querySelector('a[rel=next]').href")
        await page.click("a[rel=next]")
        await page.until(f"document.querySelector('a[rel=next]')?.href !== {before!r}")
    await page.until(f"({ROWS}).length === 15")
    assert "This is the last page." in await page.text(".pages")


async def test_each_role_sees_what_it_may_do(page: Page, api_settings: Settings, database: Database) -> None:
    known = await keys(database)
    async with shown(page, msgspec.structs.replace(api_settings, auth="on")) as closed:
        closed.headers.update(bearer(known.admin))
        device = (await closed.post("/devices", json={"name": "Boiler, north"})).json()["id"]
        await closed.post(f"/stats/analysis/{device}/async")
        await page.open(f"{closed.base_url}/ui/analyses")
        await sign_in(page, known.analyst)
        await page.until("document.querySelector('.actions button')")
        assert await page.text(".title .primary") == "Queue an analysis"
        await page.click(".tools .small")
        page.expect(401, "/session")
        page.expect(401, REQUESTS)
        page.expect(403, REQUESTS)
        await sign_in(page, known.writer)
        refusal = (await closed.get(REQUESTS, headers=bearer(known.writer))).json()
        assert refusal["detail"] in await page.text(".notice.bad")
        assert await page.run("document.querySelector('.title .primary, .filters')") is None
        await page.key("n", "n")
        assert await page.run("document.querySelector('dialog')") is None


async def test_the_list_stays_while_the_database_is_away(
    page: Page, api: httpx.AsyncClient, device: int, database_url: str, postgres_server: str
) -> None:
    await api.post(f"/stats/analysis/{device}/async")
    await show(page, api)
    page.expect(503, "/")
    async with services.database_away(postgres_server, database_url):
        await page.key("r", "r")
        assert "The page shows the last state" in await page.text(".banner")
        await status_is(page, "Waiting")
        await page.click(".actions button")
        await page.until("document.querySelector('.notice.bad')")
    await page.until("!document.querySelector('.banner')")


@pytest.mark.parametrize("theme", ["light", "dark"])
async def test_it_can_be_used_by_everybody(
    page: Page, api: httpx.AsyncClient, device: int, database: Database, theme: str
) -> None:
    await page.send("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": theme}])
    await api.post(f"/stats/analysis/{device}/async")
    await fail_one(database)
    await api.post(f"/stats/analysis/{device}/async", params={"figures": "mean"})
    await show(page, api)
    assert await faults_of_access(page) == []
    await page.key("n", "n")
    await page.until("document.querySelector('dialog[open]')")
    await page.click("dialog .primary")
    await page.until("document.querySelector('dialog .fault')")
    assert await faults_of_access(page) == []
    await show(page, api, "&request=1")
    assert REASON in await page.text("dialog .reason")
    assert await faults_of_access(page) == []
    await page.resize(390, 844, mobile=True)
    for query in ("", "&request=1"):
        await show(page, api, query)
        await page.until("document.querySelector('.analyses tbody tr')")
        assert await page.run("document.documentElement.scrollWidth") == 390
