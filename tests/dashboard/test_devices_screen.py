"""The list of devices in Chromium: first steps, registration, search, pages."""

import asyncio

import httpx

from tests import chromium
from tests.browser import Page

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
    await page.click("a[rel=next]")
    assert await page.until(f"({rows}).length === 31 && ({rows}).at(-1)") == "Boiler"
    await page.run("history.back()")
    await page.until(f"({rows}).length === 100")
    await page.key("/", "/")
    await page.type("boil")
    assert await page.until(f"({rows}).length === 1 && {rows}") == ["Boiler"]
    assert await page.run("location.search") == "?search=boil"
    await page.type("x")
    assert "No device has “boilx”" in await page.text(".notice")


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
