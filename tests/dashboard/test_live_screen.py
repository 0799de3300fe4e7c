"""The screen Live in Chromium: the history joined to the stream, interruptions, hidden tabs, bounded memory."""

import httpx
import pytest

from query_api.readings.live.listeners import LiveBounds
from query_api.serve.tuning import Tuning
from shared.settings import Settings
from tests import chromium, services
from tests.browser import Page
from tests.dashboard.conftest import shown
from tests.dashboard.live import OPEN, drawn, histories, set_hidden, store, streams, until_drawn
from tests.dashboard.pixels import pixels

pytestmark = [chromium.needs_chromium]
LOST = "document.querySelector('.live-state .lost')"


@pytest.fixture
async def several(api: httpx.AsyncClient) -> list[int]:
    """The ids of three devices."""
    names = ("Boiler, north", "Pump 2", "Chiller")
    return [(await api.post("/devices", json={"name": name})).json()["id"] for name in names]


async def show(page: Page, api: httpx.AsyncClient, *devices: int, query: str = "") -> None:
    await page.open(f"{api.base_url}/ui/live?{'&'.join(f'device={each}' for each in devices)}{query}")
    await page.until(OPEN)


class HeldHistories:
    """Holds each request of the page for a history, and then its response, until it is released."""

    SCRIPT = """
        window.held = [];
        const passed = () => new Promise(release => held.push(release));
        const send = fetch;
        window.fetch = async (url, options) => {
            if (!url.includes("/series?")) return send(url, options);
            await passed();
            const answer = await send(url, options);
            await passed();
            return answer;
        };
    """

    def __init__(self, page: Page) -> None:
        self._page = page

    async def hold(self) -> None:
        """Hold those of the pages that are opened from now on."""
        await self._page.send("Page.addScriptToEvaluateOnNewDocument", source=self.SCRIPT)

    async def next(self) -> None:
        """Wait for the next one."""
        await self._page.until("held.length > 0")

    async def release(self) -> None:
        """Let it pass."""
        await self._page.run("held.shift()()")


async def test_every_reading_is_drawn_once_across_the_seam(page: Page, api: httpx.AsyncClient, device: int) -> None:
    """Readings stored before the stream, before the history is read, and before it arrives; some of them late."""
    await store(api, device, [1, 2, 3], ago=60)
    held = HeldHistories(page)
    await held.hold()
    await page.open(f"{api.base_url}/ui/live?device={device}")
    await held.next()
    await store(api, device, [4, 5], ago=50)  # in the stream and in the history
    await held.release()
    await held.next()
    await store(api, device, [8, 9], ago=30)  # in the stream only
    await store(api, device, [6, 7], ago=40)
    await until_drawn(page, [4, 5, 6, 7, 8, 9])
    await held.release()
    await until_drawn(page, range(1, 10))
    await store(api, device, range(10, 60), ago=20)
    await until_drawn(page, range(1, 60))
    assert len(histories(page)) == 1
    await page.until("document.querySelector('.latest tbody td').innerText === '59'")


async def test_several_devices_have_one_stream(page: Page, api: httpx.AsyncClient, several: list[int]) -> None:
    for number, each in enumerate(several):
        await store(api, each, [number, number + 0.5], ago=10)
    await show(page, api, *several)
    for number, each in enumerate(several):
        await store(api, each, [number + 0.25], ago=1)
        await until_drawn(page, [number, number + 0.5, number + 0.25], line=number)
    assert len(streams(page)) == 1
    assert [streams(page)[0].count(f"device_id={each}") for each in several] == [1, 1, 1]
    assert await page.run("document.querySelector('.pane').innerText") == "x\nBoiler, north\nPump 2\nChiller"
    for number in range(3):
        assert await pixels(page, 0, f"line-{number}", 0.9) > 0


async def test_the_address_holds_window_axes_and_devices(
    page: Page, api: httpx.AsyncClient, several: list[int]
) -> None:
    await store(api, several[0], [1], ago=120)
    await store(api, several[0], [2], ago=10)
    await show(page, api, several[0], query="&window=1m&show=x,z")
    await until_drawn(page, [2])
    assert await page.run("document.querySelectorAll('.pane').length") == 2
    await page.run(
        "(select => { select.value = '15m'; select.dispatchEvent(new Event('change')); })"
        "(document.querySelector('.period select'))"
    )
    await until_drawn(page, [1, 2])
    await page.click(".plot .choice label:last-child")
    await page.until("document.querySelectorAll('.pane').length === 1")
    assert await page.run("location.search") == f"?device={several[0]}&window=15m&show=x"
    await page.click("[role=combobox]")
    await page.type("pump")
    await page.until("document.querySelector('[role=option][aria-selected=true]')?.innerText.includes('Pump 2')")
    await page.key("Enter")
    await page.until(f"location.search.startsWith('?device={several[0]}&device={several[1]}&')")
    await page.until("document.querySelectorAll('.latest tbody tr').length === 2")
    await page.click(".latest [aria-label='Remove Boiler, north']")
    await page.until(f"location.search === '?device={several[1]}&window=15m&show=x'")


@pytest.mark.serve(Tuning(live=LiveBounds(max_events=3)))
async def test_what_the_stream_has_dropped_is_read_again(page: Page, api: httpx.AsyncClient, device: int) -> None:
    await show(page, api, device)
    await store(api, device, range(40), ago=10)
    await until_drawn(page, range(40))
    note = await page.text(".notes li")
    assert "Readings may have been missing, as the page was too slow for 37 readings; those from" in note
    assert note.endswith("on were read again.")


async def test_a_gap_is_read_again_and_told(
    page: Page, api: httpx.AsyncClient, device: int, database_url: str, postgres_server: str
) -> None:
    await store(api, device, [1, 2], ago=10)
    await show(page, api, device)
    await until_drawn(page, [1, 2])
    before = len(histories(page))
    page.expect(503, "/")
    async with services.database_away(postgres_server, database_url):
        pass
    await page.until("document.querySelector('.notes')?.innerText.includes('the database was unavailable')")
    await store(api, device, [3], ago=1)
    await until_drawn(page, [1, 2, 3])
    assert len(histories(page)) > before


async def test_a_hidden_tab_reads_nothing_and_continues(page: Page, api: httpx.AsyncClient, device: int) -> None:
    await store(api, device, [1], ago=30)
    await show(page, api, device)
    await until_drawn(page, [1])
    await set_hidden(page, hidden=True)
    await page.until("!document.querySelector('.live-state .on')")
    asked = len(page.asked)
    await store(api, device, [2, 3], ago=20)
    assert await drawn(page) == [1]
    assert len(page.asked) == asked
    await set_hidden(page, hidden=False)
    await until_drawn(page, [1, 2, 3])
    await store(api, device, [4], ago=10)
    await until_drawn(page, [1, 2, 3, 4])
    assert len(streams(page)) == 2


async def test_a_paused_picture_stays_and_has_a_table(page: Page, api: httpx.AsyncClient, device: int) -> None:
    await store(api, device, [1, 2], ago=10)
    await show(page, api, device)
    await until_drawn(page, [1, 2])
    await page.key("p", "p")
    await page.until("document.querySelector('.live-state').innerText.startsWith('Paused at')")
    await store(api, device, [3], ago=1)
    await page.click(".plot summary")
    await page.until("document.querySelectorAll('.points tbody tr').length === 6")
    assert await drawn(page) == [1, 2]
    await page.key("p", "p")
    await until_drawn(page, [1, 2, 3])


async def test_a_lost_service_is_told_and_what_was_missed_is_read(page: Page, api_settings: Settings) -> None:
    async with services.api(api_settings) as api:
        device = (await api.post("/devices", json={"name": "Boiler, north"})).json()["id"]
        await store(api, device, [1, 2], ago=60)
        await show(page, api, device)
        await until_drawn(page, [1, 2])
    await page.until(LOST)
    assert "Not live since" in await page.text(".live-state")
    assert await drawn(page) == [1, 2]
    async with shown(page, api_settings) as api:
        await store(api, device, [3, 4], ago=20)
        await until_drawn(page, [1, 2, 3, 4])
        await page.until(f"{OPEN} && !document.querySelector('.banner')")
        await store(api, device, [5], ago=1)
        await until_drawn(page, [1, 2, 3, 4, 5])


async def test_a_stream_without_a_sign_of_life_is_opened_again(page: Page, api: httpx.AsyncClient, device: int) -> None:
    await show(page, api, device)
    await page.run("(now => { performance.now = () => now() + 60_000; })(performance.now.bind(performance))")
    await page.until(LOST)
    assert "Nothing arrives from the service." in await page.text(".live-state")
    await page.until(OPEN)
    assert len(streams(page)) == 2


async def test_many_readings_take_bounded_memory(page: Page, api: httpx.AsyncClient, device: int) -> None:
    """The lines stay short, and have the peaks."""
    await show(page, api, device, query="&window=1m")
    for part in range(6):
        await store(
            api, device, [part * 10 + at % 7 + (100 + 100 * part if at == 5000 else 0) for at in range(9000)], ago=11
        )
    await page.until("document.querySelector('time-plot').content.lines[0].values.includes(650 + 5000 % 7)")
    sizes = await page.run("document.querySelector('time-plot').content.lines.map(line => line.times.length)")
    assert max(sizes) <= 8800
    for part in range(6):
        assert 100 + part * 110 + 5000 % 7 in await drawn(page)


async def test_dragging_shows_the_period(page: Page, api: httpx.AsyncClient, several: list[int]) -> None:
    for each in several[:2]:
        await store(api, each, [1, 2], ago=100)
    await show(page, api, several[0])
    await until_drawn(page, [1, 2])
    await page.drag("time-plot .u-over", 0.5, 0.9)
    await page.until(f"location.pathname === '/ui/devices/{several[0]}' && location.search.includes('from=')")
    await page.run("history.back()")
    await page.until(OPEN)


async def test_unknown_devices_and_too_many_are_told(page: Page, api: httpx.AsyncClient, device: int) -> None:
    for path in ("/devices", "/stats"):
        page.expect(404, path)
    await store(api, device, [1], ago=10)
    unknown = "".join(f"&device={device + more}" for more in range(1, 13))
    await page.open(f"{api.base_url}/ui/live?device={device}&device=north{unknown}")
    await until_drawn(page, [1])
    await page.until(OPEN)
    text = await page.text("main")
    assert "not a number: north" in text
    assert f"At most 12 devices are shown together. These are left out: {device + 12}." in text
    await page.until("document.querySelectorAll('.latest tbody tr').length === 1")
    await page.until("document.querySelectorAll('.notice.bad').length === 12")


async def test_a_deleted_device_leaves_the_stream(page: Page, api: httpx.AsyncClient, several: list[int]) -> None:
    for path in ("/devices", "/stats"):
        page.expect(404, f"{path}/{several[1]}")
    await show(page, api, *several[:2])
    await api.delete(f"/devices/{several[1]}")
    await page.until("document.querySelector('.notes')?.innerText.includes('Pump 2: the device was deleted')")
    await page.until("document.querySelectorAll('.latest tbody tr').length === 1")
    await store(api, several[0], [1], ago=1)
    await until_drawn(page, [1])
