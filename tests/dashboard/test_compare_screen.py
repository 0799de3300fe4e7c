"""The screen Compare in Chromium: several devices, an earlier day, the cursor, figures, exports."""

from datetime import datetime, timedelta
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from tests import chromium
from tests.browser import Page
from tests.dashboard.conftest import START, store
from tests.dashboard.pixels import pixels

pytestmark = [chromium.needs_chromium]
PERIOD = "&from=2026-01-31T12:00:00Z&to=2026-01-31T12:20:00Z&tz=UTC"
COMPLETE = (
    "document.querySelector('time-plot canvas') && document.querySelector('.compared')"
    " && !document.querySelector('[aria-busy=true]')"
)
GHOST = 0.7
"""The opacity of a line for comparison."""


@pytest.fixture
async def other(api: httpx.AsyncClient) -> int:
    """The id of a device with a reading a second for 20 minutes from START, without those of minutes 2 to 4."""
    number: int = (await api.post("/devices", json={"name": "Pump 2"})).json()["id"]
    await store(api, number, (second + 0.5 for second in range(1200) if not 120 <= second < 240))
    return number


async def show(page: Page, api: httpx.AsyncClient, *devices: int, query: str = PERIOD) -> None:
    await page.open(f"{api.base_url}/ui/compare?{'&'.join(f'device={each}' for each in devices)}{query}")
    await page.until(COMPLETE)


async def outputs(page: Page) -> list[str]:
    """Return the texts of the legends, line by line."""
    found: list[str] = await page.run(
        "[...document.querySelectorAll('.pane-heading')].map(each => each.innerText.replace(/\\s+/g, ' '))"
    )
    return found


async def query_of(page: Page) -> dict[str, list[str]]:
    return parse_qs(str(await page.run("location.search"))[1:])


async def test_devices_have_lines_of_their_own_and_a_common_cursor(
    page: Page, api: httpx.AsyncClient, waves: int, other: int
) -> None:
    await show(page, api, waves, other)
    for line in range(2):
        assert await pixels(page, 0, f"line-{line}") > 300
    assert await pixels(page, 0, "line-2") < 50
    assert await page.run("document.querySelector('time-plot').content.lines.map(line => line.style).join()") == (
        "0,1,0,1,0,1"
    )
    await page.run("document.querySelector('time-plot').focus()")
    for _ in range(3):
        await page.key("ArrowRight")
    assert await outputs(page) == [
        "x Waves 0.167 Pump 2 0.083 at 2026-01-31 12:00:01",
        "y Waves 0.01 Pump 2 0.005 at 2026-01-31 12:00:01",
        "z Waves -5 Pump 2 -5 at 2026-01-31 12:00:01",
    ]


async def test_a_line_does_not_cross_a_gap_beside_another_line(
    page: Page, api: httpx.AsyncClient, waves: int, other: int
) -> None:
    """The first device has no readings from 40 to 60 per cent of the period, the other one from 10 to 20."""
    await show(page, api, waves, other)
    for pane in range(2):
        assert await pixels(page, pane, "line-0", 0.47, 0.57) == 0
        assert await pixels(page, pane, "line-1", 0.47, 0.57) > 20
        assert await pixels(page, pane, "line-1", 0.17, 0.2) == 0
        assert await pixels(page, pane, "line-0", 0.17, 0.2) > 10


async def test_the_same_hours_of_the_day_before_are_a_fainter_line(
    page: Page, api: httpx.AsyncClient, waves: int
) -> None:
    """The day before has readings where the day itself has none."""
    await store(api, waves, range(1200), start=START - timedelta(days=1))
    await show(page, api, waves)
    await page.run(
        "(select => { select.value = 'P1D'; select.dispatchEvent(new Event('change')); })"
        "(document.querySelector('.inline select'))"
    )
    await page.until("location.search.endsWith('&offset=P1D')")
    await page.until("document.querySelector('.pane-heading .ghost')?.innerText.trim() === '1 day before'")
    await page.until(COMPLETE)
    assert await pixels(page, 2, "line-2", 0.47, 0.57, opacity=GHOST) > 20
    for pane in range(3):
        assert await pixels(page, pane, f"line-{pane}", 0.47, 0.57) == 0
    rows = await page.run("[...document.querySelectorAll('.compared tbody:first-of-type tr')].map(e => e.innerText)")
    assert [row.split("\t")[:3] for row in rows[1:]] == [["Waves", "960", "-10"], ["1 day before", "1,200", "-10"]]


async def test_an_earlier_day_is_one_of_the_time_zone(page: Page, api: httpx.AsyncClient, waves: int) -> None:
    """In Berlin the clocks go forward in the night to 2026-03-29: noon there is 11:00 UTC, and 10:00 UTC after it."""
    noon = datetime.fromisoformat("2026-03-28T11:00:00+00:00")
    await store(api, waves, [0, 1, 2], start=noon)
    await store(api, waves, [0, 1, 2], start=noon + timedelta(hours=23))
    await show(page, api, waves, query="&from=2026-03-29T12:00:00&to=2026-03-29T12:00:02&tz=Europe/Berlin&offset=P1D")
    lines = await page.run(
        "document.querySelector('time-plot').content.lines.map(({isGhost, times}) => [isGhost, times])"
    )
    at = (noon + timedelta(hours=23)).timestamp()
    assert lines[:2] == [[True, [at, at + 1, at + 2]], [None, [at, at + 1, at + 2]]]


async def test_the_figures_are_those_of_the_api(page: Page, api: httpx.AsyncClient, waves: int, other: int) -> None:
    await show(page, api, waves, other)
    query = "start=2026-01-31T12:00:00Z&end=2026-01-31T12:20:00Z&group_by=device&figures=mean,stddev"
    answer = await api.get(f"/stats/analysis?device_id={waves}&device_id={other}&{query}")
    rows = await page.run("[...document.querySelectorAll('.compared td')].map(cell => cell.innerText)")
    figures = [analysis[axis] for axis in "xyz" for analysis in answer.json()]
    names = ("min", "mean", "median", "max", "stddev")
    expected = [float(each[name]) for each in figures for name in ("count", *names)]
    assert [float(cell.replace(",", "")) for cell in rows] == expected


async def test_a_device_is_found_and_removed_with_the_keyboard(
    page: Page, api: httpx.AsyncClient, waves: int, other: int
) -> None:
    await show(page, api, waves)
    await page.run("document.querySelector('[role=combobox]').focus()")
    await page.until("document.querySelectorAll('[role=option]').length === 1")
    await page.key("ArrowDown")
    active = "document.getElementById(document.activeElement.getAttribute('aria-activedescendant'))?.innerText"
    await page.until(f"{active}.startsWith('Pump 2')")
    await page.key("Enter")
    await page.until("document.querySelectorAll('.chip').length === 2")
    assert (await query_of(page))["device"] == [str(waves), str(other)]
    await page.until("document.querySelectorAll('.pane')[0].innerText.includes('Pump 2')")
    await page.type("nowhere")
    await page.until("document.querySelector('.options')?.innerText.includes('No other device has “nowhere”')")
    await page.key("Escape")
    await page.until("!document.querySelector('.options')")
    await page.run("document.querySelector('[aria-label=\"Remove Waves\"]').click()")
    await page.until("document.querySelectorAll('.chip').length === 1")
    assert (await query_of(page))["device"] == [str(other)]
    await page.run("history.back()")
    await page.until("document.querySelectorAll('.chip').length === 2")


async def test_dragging_zooms_and_back_returns(page: Page, api: httpx.AsyncClient, waves: int, other: int) -> None:
    await show(page, api, waves, other)
    await page.drag("time-plot .u-over", 0.25, 0.35)
    await page.until("location.search.indexOf('12:20:00Z') < 0")
    query = await query_of(page)
    start, end = [(datetime.fromisoformat(query[name][0]) - START).total_seconds() for name in ("from", "to")]
    assert (round(start / 10), round(end / 10)) == (30, 42)
    assert query["device"] == [str(waves), str(other)]
    await page.until(COMPLETE)
    await page.run("history.back()")
    await page.until("location.search.indexOf('12:20:00Z') > 0")


async def test_one_plot_for_all_and_chosen_axes(page: Page, api: httpx.AsyncClient, waves: int, other: int) -> None:
    await show(page, api, waves, other, query=f"{PERIOD}&show=x,y&axes=together")
    names = await page.run("document.querySelector('time-plot').content.lines.map(line => line.name)")
    assert names == ["Waves x", "Pump 2 x", "Waves y", "Pump 2 y"]
    assert await page.run("document.querySelectorAll('.pane').length") == 1
    await page.key("a", "a")
    await page.until("document.querySelectorAll('.pane').length === 2")


async def test_it_opens_where_the_readings_are(page: Page, api: httpx.AsyncClient, waves: int, other: int) -> None:
    await show(page, api, waves, other, query="&tz=UTC")
    query = await query_of(page)
    assert (query["from"], query["to"]) == (["2026-01-31T12:00:00Z"], ["2026-01-31T12:19:59.5Z"])


async def test_a_period_without_readings_says_where_they_are(page: Page, api: httpx.AsyncClient, waves: int) -> None:
    await show(page, api, waves, query="&from=now-5m&to=now&tz=UTC")
    text = await page.text("main > .notice")
    assert "They have readings from 2026-01-31 12:00:00 to 2026-01-31 12:19:59." in text
    await page.click("main > .notice button")
    await page.until("location.search.includes('12:19:59Z')")


async def test_the_readings_are_exported_in_the_time_zone(page: Page, api: httpx.AsyncClient, waves: int) -> None:
    await show(page, api, waves, query=PERIOD.replace("UTC", "Europe/Berlin"))
    links = await page.run("[...document.querySelectorAll('.files a')].map(link => link.href)")
    assert [urlsplit(link).path for link in links] == [
        f"/stats/{waves}.{suffix}" for suffix in ("csv", "ndjson", "arrow", "parquet")
    ]
    answer = await api.get(links[0])
    assert len(answer.text.splitlines()) == 961
    assert "2026-01-31T13:00:00" in answer.text.splitlines()[1]


async def test_a_device_leads_to_both_screens(page: Page, api: httpx.AsyncClient, waves: int) -> None:
    await page.open(f"{api.base_url}/ui/devices/{waves}?{PERIOD[1:]}")
    await page.until("document.querySelector('.title a[href^=\"/ui/live\"]')")
    await page.click(".title a[href^='/ui/compare']")
    await page.until(COMPLETE)
    assert (await query_of(page))["from"] == ["2026-01-31T12:00:00Z"]
    await page.click(".chip a")
    await page.until(f"location.pathname === '/ui/devices/{waves}'")
    await page.until("document.querySelector('.title h1')?.innerText === 'Waves'")
