"""The list of devices in Chromium: first steps, registration, search, order, states, small plots, pages."""

import asyncio
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from query_api.worker.maintenance.activity import ActivityRound
from tests import chromium
from tests.browser import Page
from tests.conftest import Database
from tests.dashboard.conftest import store

pytestmark = [chromium.needs_chromium]


async def register(page: Page, name: str, key: str) -> None:
    await page.fill("input[name=name]", name)
    await page.fill("input[name=key]", key)
    await page.click(".steps button.primary")
    await page.until("document.querySelector('.waiting')")


async def test_an_empty_installation_teaches_two_steps_and_turns_live(page: Page, api: httpx.AsyncClient) -> None:
    await page.open(str(api.base_url))
    assert "Two steps to the first reading" in await page.text(".first-steps")
    await register(page, "Boiler, north", "boiler-north")
    token, publish, post = await page.run("[...document.querySelectorAll('.steps pre')].map(each => each.innerText)")
    (device,) = (await api.get("/devices")).json()
    assert (device["name"], device["key"]) == ("Boiler, north", "boiler-north")
    assert token.startswith("dst_")
    assert publish.startswith("mosquitto_pub -h 127.0.0.1 -q 1 ")
    assert f"-P {token} " in publish
    assert "-t devices/boiler-north/stats" in publish
    assert f"Bearer {token}" in post
    reading = {"device_id": device["id"], "x": 1.5, "y": -2, "z": 3}
    await api.post("/stats", json=reading, headers={"Authorization": f"Bearer {token}"})
    await page.until("document.querySelector('.steps').innerText.includes('x 1.5, y -2, z 3')")
    await page.click(".steps a")
    await page.until("document.querySelector('h1').innerText === 'Boiler, north'")
    assert await page.run("location.pathname") == f"/ui/devices/{device['id']}"
    assert "dst_" not in await page.run("document.body.innerHTML + JSON.stringify(localStorage)")


async def test_a_taken_key_is_refused_in_the_words_of_the_api(page: Page, api: httpx.AsyncClient, device: int) -> None:
    refusal = (await api.post("/devices", json={"name": "n", "key": str(device)})).json()
    page.expect(409, "/devices")
    await page.open(str(api.base_url))
    await page.until("document.querySelector('.devices')")
    await page.key("n", "n")
    await page.fill("dialog input[name=name]", "Another")
    await page.fill("dialog input[name=key]", str(device))
    await page.click("dialog button.primary")
    assert refusal["detail"] in await page.text("dialog .notice.bad")
    await page.fill("dialog input[name=key]", "another")
    await page.click("dialog button.primary")
    await page.until("document.querySelector('dialog .waiting')")
    await page.click("dialog header button")
    await page.until("document.querySelectorAll('.devices tbody tr').length === 2 && !document.querySelector('dialog')")


async def test_search_and_pages_are_in_the_address(page: Page, api: httpx.AsyncClient) -> None:
    names = [{"name": f"Pump {number}"} for number in range(130)] + [{"name": "Boiler"}]
    await api.post("/devices", json=names)
    rows = "[...document.querySelectorAll('.devices tbody th')].map(each => each.innerText)"
    await page.open(str(api.base_url))
    assert len(await page.until(f"({rows}).length && {rows}")) == 100
    assert await page.text(".title .facts") == "131 devices"
    assert "Page 1 of 2" in await page.text(".pages")
    await page.click("a[rel=next]")
    assert await page.until(f"({rows}).length === 31 && ({rows}).at(-1)") == "Boiler"
    assert "Page 2 of 2" in await page.text(".pages")
    await page.run("history.back()")
    await page.until(f"({rows}).length === 100")
    await page.key("/", "/")
    await page.type("boil")
    assert await page.until(f"({rows}).length === 1 && {rows}") == ["Boiler"]
    assert await page.run("location.search") == "?search=boil"
    await page.type("x")
    assert "No device has “boilx”" in await page.text(".notice")


@pytest.fixture
async def three(api: httpx.AsyncClient, database: Database) -> dict[str, int]:
    """The ids of a live, a silent and a new device, after a round of the worker."""
    made = await api.post("/devices", json=[{"name": name} for name in ("Silent", "Live", "New")])
    ids = {device["name"]: device["id"] for device in made.json()}
    now = datetime.now(UTC)
    await store(api, ids["Live"], range(0, 600, 60), now - timedelta(minutes=9))
    await store(api, ids["Silent"], range(0, 600, 60), now - timedelta(minutes=50))
    await ActivityRound(share=1.0).keep(database)
    return ids


NAMES = "[...document.querySelectorAll('.devices tbody th')].map(each => each.innerText).join()"
SORTED = (
    "[...document.querySelectorAll('[aria-sort]')].map(each => `${each.textContent.trim()} ${each.ariaSort}`).join()"
)


async def test_a_click_on_a_column_sorts(page: Page, api: httpx.AsyncClient, three: dict[str, int]) -> None:
    assert three
    await page.open(str(api.base_url))
    await page.until(f"{NAMES} === 'Silent,Live,New'")
    assert await page.run(SORTED) == ""
    for column, names in (
        (2, "Live,New,Silent"), (2, "Silent,New,Live"), (4, "Live,Silent,New"), (4, "New,Silent,Live"),
        (5, "Live,Silent,New"), (10, "Live,New,Silent"),
    ):  # fmt: skip
        await page.click(f".devices thead th:nth-child({column}) .sort")
        await page.until(f"{NAMES} === '{names}'")
    assert await page.run("location.search") == "?order=-rate"
    assert await page.run(SORTED) == "Rate↓ descending"
    await page.run("history.back()")
    await page.until(f"{NAMES} === 'Live,Silent,New' && location.search === '?order=-last_seen'")


async def test_states_are_counted_and_selected(page: Page, api: httpx.AsyncClient, three: dict[str, int]) -> None:
    assert three
    await page.open(str(api.base_url))
    states = "[...document.querySelectorAll('.states a')].map(each => each.innerText.replace(/\\s+/, ' ')).join()"
    await page.until(f"{states} === 'All 3,Live 1,Late 0,Silent 1,Never 1'")
    badges = "[...document.querySelectorAll('.devices .state')].map(each => each.innerText).join()"
    assert await page.run(badges) == "Silent,Live,Never"
    await page.click(".states a:nth-child(4)")
    await page.until(f"{NAMES} === 'Silent' && location.search === '?state=silent'")
    assert await page.text(".title .facts") == "1 device"
    await page.click(".states a:nth-child(3)")
    assert "No device is late." in await page.text(".notice")
    await page.click(".states a:nth-child(1)")
    await page.until(f"{NAMES} === 'Silent,Live,New'")


async def test_selected_devices_open_together(page: Page, api: httpx.AsyncClient, three: dict[str, int]) -> None:
    """And are still selected after the way back."""
    await page.open(f"{api.base_url}/?tz=Europe/Berlin")
    await page.until(f"{NAMES} === 'Silent,Live,New'")
    assert not await page.run("document.querySelector('.selection') !== null")
    await page.click("input[aria-label='Select Live']")
    await page.click("input[aria-label='Select Silent']")
    await page.click("input[aria-label='Select New']")
    await page.click("input[aria-label='Select New']")
    bar = "document.querySelector('.selection')?.innerText.split(/\\s*\\n\\s*/).join()"
    await page.until(f"{bar} === 'Compare (2),Live (2),Clear'")
    addresses = await page.run(
        "[...document.querySelectorAll('.selection a')].map(each => each.pathname + each.search)"
    )
    query = f"?device={three['Live']}&device={three['Silent']}&tz=Europe/Berlin"
    assert addresses == [f"/ui/compare{query}", f"/ui/live{query}"]
    await page.click(".selection a")
    await page.until("[...document.querySelectorAll('.chip a')].map(each => each.innerText).join() === 'Live,Silent'")
    await page.run("history.back()")
    checked = "[...document.querySelectorAll('.pick input')].map(each => Number(each.checked)).join()"
    await page.until(f"{checked} === '1,1,0'")
    await page.click(".devices thead .sort")
    await page.until(f"{NAMES} === 'Live,New,Silent' && {checked} === '1,0,1'")
    await page.click(".selection button")
    await page.until(f"{checked} === '0,0,0' && !document.querySelector('.selection')")
    assert await page.run("location.search") == "?tz=Europe/Berlin&order=name"


async def test_more_devices_than_lines_cannot_be_opened_together(page: Page, api: httpx.AsyncClient) -> None:
    made = (await api.post("/devices", json=[{"name": f"Pump {number}"} for number in range(13)])).json()
    await page.open(f"{api.base_url}/?selected={','.join(str(device['id']) for device in made)}")
    assert "13 devices are selected. At most 12 can be shown together." in await page.text(".selection")
    # Not by the mouse: rows move when the small plots arrive.
    await page.run("document.querySelector(\"input[aria-label='Select Pump 5']\").click()")
    await page.until("document.querySelector('.selection a')?.innerText === 'Compare (12)'")
    wanted = [device["id"] for device in made if device["name"] != "Pump 5"]
    assert await page.run("document.querySelector('.selection a').search") == "?" + "&".join(
        f"device={number}" for number in wanted
    )


async def test_one_request_draws_the_small_plots(page: Page, api: httpx.AsyncClient, three: dict[str, int]) -> None:
    assert three
    await page.open(str(api.base_url))
    await page.until("document.querySelectorAll('.sparkline path').length === 2")
    assert len([url for url in page.asked if "/stats/series" in url]) == 1
    await page.run(
        "(select => { select.value = 'z'; select.dispatchEvent(new Event('change', {bubbles: true})); })"
        "(document.querySelector('.devices select'))"
    )
    await page.until("document.querySelector('.sparkline')?.ariaLabel === 'z from -5 to -5'")
    assert await page.run("location.search") == "?axis=z"


async def test_the_list_follows_new_readings(page: Page, api: httpx.AsyncClient, three: dict[str, int]) -> None:
    await page.open(str(api.base_url))
    await page.until(f"{NAMES} === 'Silent,Live,New'")
    await api.post("/stats", json={"device_id": three["New"], "x": 123.456, "y": 0, "z": 0})
    row = "document.querySelector('.devices tbody tr:last-child').innerText"
    await page.until(f"{row}.includes('Live') && {row}.includes('123.456')")


async def test_states_that_nobody_keeps_are_said_to_be_old(page: Page, api: httpx.AsyncClient, device: int) -> None:
    assert device
    await page.open(str(api.base_url))
    await page.until("document.querySelector('.hint')?.innerText.includes('No worker has counted the states yet.')")


async def test_a_long_page_has_plots_where_it_is_visible(page: Page, api: httpx.AsyncClient) -> None:
    made = (await api.post("/devices", json=[{"name": f"Pump {number:04}"} for number in range(400)])).json()
    await api.post("/stats", json=[{"device_id": device["id"], "x": 1, "y": 2, "z": 3} for device in made])
    await page.open(f"{api.base_url}/?limit=1000&order=name")
    await page.until(f"{NAMES} === '{','.join(device['name'] for device in made)}'")
    await page.until("document.querySelector('.sparkline')")
    assert "All on one page" in await page.text(".pages")
    plots = "[...document.querySelectorAll('.devices tbody tr')].map(row => row.querySelector('.sparkline') !== null)"
    shown = await page.run(plots)
    assert (len(shown), shown[0], shown[399], sum(shown) <= 100) == (400, True, False, True)
    await page.run("window.scrollTo(0, document.body.scrollHeight)")
    await page.until(f"{plots}.at(-1)")


async def test_a_long_page_is_drawn_again_in_parts(page: Page, api: httpx.AsyncClient) -> None:
    made = (await api.post("/devices", json=[{"name": f"Pump {number:04}"} for number in range(400)])).json()
    await page.open(f"{api.base_url}/?limit=1000&order=name")
    values = "[...document.querySelectorAll('.devices tbody tr')].map(row => row.cells[6].innerText)"
    await page.until(f"{values}.length === 400")
    await page.run(
        "window.most = 0; new MutationObserver(changes => { most = Math.max(most, new Set("
        "changes.map(({target}) => target.parentElement?.closest('tr'))).size); })"
        ".observe(document.querySelector('.devices'), {subtree: true, childList: true, characterData: true})"
    )
    await api.post(
        "/stats", json=[{"device_id": device["id"], "x": at, "y": 2, "z": 3} for at, device in enumerate(made)]
    )
    await page.key("r", "r")
    expected = ",".join(str(at) for at in range(400))
    await page.until(f"{values}.join() === '{expected}'")
    assert 0 < await page.run("most") <= 100
    await page.click(".devices thead .sort")
    await page.until(f"{NAMES} === '{','.join(device['name'] for device in reversed(made))}'")
    assert await page.run(f"{values}.join()") == ",".join(str(at) for at in reversed(range(400)))
    await page.click("input[type=search]")
    await page.type("Pump 000")
    await page.until(f"{NAMES}.split(',').length === 10")


async def test_shortcuts_can_be_switched_off(page: Page, api: httpx.AsyncClient, device: int) -> None:
    assert device
    await page.open(str(api.base_url))
    await page.until("document.querySelector('.devices')")
    await page.key("?", "?")
    assert "Register a device" in await page.text("dialog")
    await page.click("dialog input[type=checkbox]")
    await page.click("dialog header button")
    await page.until("!document.querySelector('dialog')")
    await page.key("?", "?")
    await page.key("n", "n")
    await asyncio.sleep(0.2)
    assert not await page.run("document.querySelector('dialog') !== null")
