"""A device in Chromium: periods, zoom, keyboard, touch, time zones, exports."""

import asyncio
import re
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from tests import chromium
from tests.browser import Page
from tests.dashboard.conftest import START, store

pytestmark = [chromium.needs_chromium]
PERIOD = "from=2026-01-31T12:00:00Z&to=2026-01-31T12:20:00Z&tz=UTC"
DRAWN = "document.querySelector('time-plot canvas') && !document.querySelector('.plot[aria-busy=true]')"
COMPLETE = (
    f"{DRAWN} && document.querySelector('.histogram') && document.querySelector('tbody')"
    " && !document.querySelector('[aria-busy=true]')"
)


async def show(page: Page, api: httpx.AsyncClient, device: int, query: str = PERIOD) -> None:
    await page.open(f"{api.base_url}/ui/devices/{device}?{query}")
    await page.until(COMPLETE)


async def query_of(page: Page) -> dict[str, str]:
    found = parse_qs(str(await page.run("location.search"))[1:])
    return {name: values[0] for name, values in found.items()}


def asked_series(page: Page) -> dict[str, str]:
    """Return the query of the last request for points."""
    url = [url for url in page.asked if "/series" in url][-1]
    return {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}


async def period_of(page: Page) -> list[float]:
    """Return the period of the address in seconds from START."""
    found: list[float] = await page.run(
        "['from', 'to'].map(name => Date.parse(new URLSearchParams(location.search).get(name)) / 1000 - "
        f"{START.timestamp()})"
    )
    return found


async def test_dragging_zooms_and_asks_for_as_many_points_as_pixels(
    page: Page, api: httpx.AsyncClient, waves: int
) -> None:
    await show(page, api, waves)
    await page.drag("time-plot .u-over", 0.25, 0.35)
    await page.until("location.search.indexOf('12:20:00Z') < 0")
    await page.until(DRAWN)
    start, end = await period_of(page)
    assert (round(start / 10), round(end / 10)) == (30, 42)
    await page.until("document.querySelector('.plot .facts').innerText.startsWith('12')")
    width = await page.run("document.querySelector('time-plot').clientWidth")
    assert int(asked_series(page)["points"]) == -(-width // 100) * 100
    assert asked_series(page)["start"] == (await query_of(page))["from"]
    assert re.fullmatch(r"2026-01-31T12:0\d:\d\dZ", (await query_of(page))["from"])  # a pixel is a second
    await page.run("history.back()")
    await page.until("location.search.indexOf('12:20:00Z') > 0")
    await page.until("document.querySelector('.plot .facts').innerText.startsWith('960')")


async def test_the_picture_is_drawn_before_anything_else_is_asked_for(
    page: Page, api: httpx.AsyncClient, waves: int
) -> None:
    await show(page, api, waves)
    await page.run(
        "performance.clearResourceTimings(); window.drawnAt = Promise.withResolvers(); new MutationObserver(() => "
        "document.querySelector('.plot .facts').innerText.startsWith('12') && drawnAt.resolve(performance.now())"
        ").observe(document.querySelector('.plot'), {subtree: true, childList: true, characterData: true})"
    )
    await page.drag("time-plot .u-over", 0.25, 0.35)
    asked = await page.until(
        "(found => found.length >= 5 && found)(performance.getEntriesByType('resource').map(({name, startTime}) => "
        "[new URL(name).pathname, startTime]).filter(([path]) => /stats|devices/.test(path) && !/assets/.test(path)))"
    )
    (first, *others), drawn_at = sorted(asked, key=lambda one: one[1]), await page.run("drawnAt.promise")
    assert first[0] == f"/stats/{waves}/series"
    parts = [f"/stats/{waves}/{part}" for part in ("buckets", "histogram")]
    assert sorted(path for path, _ in others) == [f"/devices/{waves}", *parts, f"/stats/analysis/{waves}"]
    assert min(begun for _, begun in others) > drawn_at


async def test_a_double_click_zooms_out(page: Page, api: httpx.AsyncClient, waves: int) -> None:
    await show(page, api, waves)
    left, top, width, height = await page.place("time-plot .u-over")
    x, y = left + width / 2, top + height / 2
    for clicks in (1, 2):
        await page.mouse("mousePressed", x, y, held=True, clicks=clicks)
        await page.mouse("mouseReleased", x, y, clicks=clicks)
    await page.until("location.search.indexOf('12:20:00Z') < 0")
    assert await period_of(page) == [-600, 1800]


async def test_the_keyboard_moves_the_cursor_and_zooms(page: Page, api: httpx.AsyncClient, waves: int) -> None:
    await show(page, api, waves)
    await page.run("document.querySelector('time-plot').focus()")
    await page.key("ArrowRight")
    await page.key("ArrowRight")
    values = await page.run("[...document.querySelectorAll('.pane output')].map(each => each.textContent)")
    assert values == [f"{value}  at 2026-01-31 12:00:01" for value in ("0.167", "0.01", "-5")]
    assert "x 0.167" in await page.run("document.querySelector('time-plot [role=status]').textContent")
    await page.key("+", "+")
    await page.until("location.search.indexOf('12:20:00Z') < 0")
    start, end = await period_of(page)
    assert round(end - start) == 600
    before = await page.run("location.search")
    await page.key("]", "]")  # a key of the screen
    await page.until(f"location.search !== {before!r}")
    assert await period_of(page) == [start + 300, end + 300]


async def test_touch_selects_and_pinches_and_scrolls(page: Page, api: httpx.AsyncClient, waves: int) -> None:
    await page.resize(390, 844, scale=2, mobile=True)
    await show(page, api, waves)
    left, top, width, height = await page.place("time-plot .u-over")
    y = top + height / 2
    await page.touch("touchStart", (left + 0.2 * width, y))
    for part in (0.25, 0.3, 0.4, 0.5):
        await page.touch("touchMove", (left + part * width, y))
    await page.touch("touchEnd")
    await page.until("location.search.indexOf('12:20:00Z') < 0")
    start, end = await period_of(page)
    assert (round(start / 20), round(end / 20)) == (12, 30)
    await page.until(DRAWN)
    before = await page.run("location.search")
    await page.touch("touchStart", (left + 0.4 * width, y), (left + 0.6 * width, y))
    for part in (0.35, 0.3, 0.2):
        await page.touch("touchMove", (left + part * width, y), (left + (1 - part) * width, y))
    await page.touch("touchEnd")
    await page.until(f"location.search !== {before!r}")
    pinched = await period_of(page)
    assert 0.25 < (pinched[1] - pinched[0]) / (end - start) < 0.5


async def test_a_device_opens_where_its_data_are(page: Page, api: httpx.AsyncClient, waves: int) -> None:
    await show(page, api, waves, "tz=UTC")
    assert await query_of(page) == {"tz": "UTC", "from": "2026-01-31T12:00:00Z", "to": "2026-01-31T12:19:59Z"}


async def test_a_period_without_readings_says_where_they_are(page: Page, api: httpx.AsyncClient, waves: int) -> None:
    await page.open(f"{api.base_url}/ui/devices/{waves}?from=now-5m&to=now&tz=UTC")
    text = await page.text(".notice")
    assert "no readings in this period (last 5 minutes)" in text
    assert "from 2026-01-31 12:00:00 to 2026-01-31 12:19:59" in text
    await page.click(".notice button")
    await page.until(DRAWN)
    assert await period_of(page) == [0, 1199]


async def test_times_are_those_of_the_zone(page: Page, api: httpx.AsyncClient, waves: int) -> None:
    await show(page, api, waves)
    first = (
        "document.querySelector('main > section.card:nth-of-type(3) tbody th, section[aria-busy] tbody th').innerText"
    )
    assert await page.until(first) == "2026-01-31 12:00:00"
    await page.fill(".zone input", "Asia/Kolkata")
    await page.run("document.querySelector('.zone input').dispatchEvent(new Event('change', {bubbles: true}))")
    await page.until(f"{first} === '2026-01-31 17:30:00'")
    assert (await query_of(page))["tz"] == "Asia/Kolkata"
    await page.click(".plot summary")
    assert "2026-01-31 17:30:01" in await page.text(".points")


async def test_the_axis_of_the_intervals_is_still_chosen_after_the_way_back(
    page: Page, api: httpx.AsyncClient, waves: int
) -> None:
    await show(page, api, waves)
    await page.click(".choice.end label:nth-of-type(3) input")
    first = "document.querySelector('[aria-label=Intervals] tbody tr')?.cells[3].innerText"
    await page.until(f"{first} === '-5'")
    await page.click(".title a[href^='/ui/live']")
    await page.until("document.querySelector('h1')?.innerText === 'Live'")
    await page.run("history.back()")
    await page.until(f"{first} === '-5'")
    assert (await query_of(page))["axis"] == "z"


async def test_a_wrong_time_is_refused_at_its_field(page: Page, api: httpx.AsyncClient, waves: int) -> None:
    await show(page, api, waves)
    await page.fill("input[name=from]", "now-6x")
    await page.run("document.querySelector('input[name=from]').dispatchEvent(new Event('change', {bubbles: true}))")
    assert "expected now, now-6h" in await page.run("document.querySelector('input[name=from]').validationMessage")
    await page.open(f"{api.base_url}/ui/devices/{waves}?from=now-6x&to=now")
    assert "expected now, now-6h" in await page.text(".notice.bad")


async def test_a_time_of_microseconds_is_shown_as_a_whole(page: Page, api: httpx.AsyncClient, waves: int) -> None:
    await show(page, api, waves, PERIOD.replace(":00Z", ":00.123456Z"))
    size = await page.run("(input => [input.scrollWidth, input.clientWidth])(document.querySelector('[name=from]'))")
    assert size[0] <= size[1]


async def test_an_unknown_device_is_a_problem_in_the_words_of_the_api(page: Page, api: httpx.AsyncClient) -> None:
    problem = (await api.get("/devices/999")).json()
    page.expect(404, "/devices/999")
    await page.open(f"{api.base_url}/ui/devices/999")
    assert problem["detail"] in await page.text(".notice.bad")


async def test_the_figures_are_those_of_the_api(page: Page, api: httpx.AsyncClient, waves: int) -> None:
    await show(page, api, waves)
    query = {"start": "2026-01-31T12:00:00Z", "end": "2026-01-31T12:20:00Z", "figures": "mean,stddev,p95"}
    wanted = (await api.get(f"/stats/analysis/{waves}", params=query)).json()
    for number, axis in enumerate("xyz", 1):
        rows = f"[...document.querySelectorAll('.cards article:nth-of-type({number}) dl div')]"
        shown = await page.run(f"Object.fromEntries({rows}.map(row => [...row.children].map(each => each.innerText)))")
        for name, value in (
            ("median", wanted[axis]["median"]), ("mean", wanted[axis]["mean"]), ("sum", wanted[axis]["sum"]),
            ("standard deviation", wanted[axis]["stddev"]), ("p95", wanted[axis]["percentiles"]["p95"]),
        ):  # fmt: skip
            assert float(shown[name]) == value, (axis, name)


async def test_exports_are_of_the_period(page: Page, api: httpx.AsyncClient, waves: int) -> None:
    await show(page, api, waves)
    links = await page.run("[...document.querySelectorAll('a[download]')].map(each => each.href)")
    assert [urlsplit(link).path.rpartition(".")[2] for link in links] == ["csv", "ndjson", "arrow", "parquet"]
    lines = (await api.get(links[0])).text.splitlines()
    assert len(lines) == 961
    assert "2026-01-31T12:00:00.000000Z" in lines[1]


ZONED = "2026-10-25T02:00:00.000000+02:00", "2026-10-25T02:30:00.000000+02:00", "2026-10-25T02:00:00.000000+01:00"


PROGRAMS = {
    "curl": "; cat device-*.csv",
    "Python": "",
    "pandas": "\nfor each in readings['timestamp']: print(each.isoformat(timespec='microseconds'))",
}
"""What follows each program, so that it prints the readings."""


@pytest.mark.parametrize("name", PROGRAMS)
async def test_programs_read_the_period_in_the_time_zone(
    page: Page, api: httpx.AsyncClient, device: int, tmp_path: Path, name: str
) -> None:
    """As the links do, also across a change of the clocks: each program runs as it is copied."""
    await store(api, device, (0, 1800, 3600), datetime(2026, 10, 25, tzinfo=UTC))
    await page.open(f"{api.base_url}/ui/devices/{device}?from=2026-10-25&to=2026-10-25&tz=Europe/Berlin")
    link = await page.until("document.querySelector('a[download]')?.href")
    assert [line for line in ZONED if line in (await api.get(link)).text] == [*ZONED]
    await page.run(f"[...document.querySelectorAll('.choice label')].find(each => each.innerText === '{name}').click()")
    await page.until(f"document.querySelector('.copy pre').ariaLabel === 'the {name} program'")
    text = await page.text(".copy pre") + PROGRAMS[name]
    interpreter = "sh" if name == "curl" else sys.executable
    running = await asyncio.create_subprocess_exec(
        interpreter, "-c", text, cwd=tmp_path, stdout=asyncio.subprocess.PIPE
    )
    out = (await running.communicate())[0].decode()
    assert running.returncode == 0
    assert [time for time in ZONED if time in out] == [*ZONED]


@pytest.fixture
async def dense(api: httpx.AsyncClient) -> int:
    """The id of a device with 20,000 readings in 1,000 seconds, and one spike."""
    number: int = (await api.post("/devices", json={"name": "Dense"})).json()["id"]
    await store(api, number, (second / 20 for second in range(20_000)))
    spike: dict[str, Any] = {"device_id": number, "x": 777, "y": 0, "z": 0, "timestamp": "2026-01-31T12:08:20.012345Z"}
    assert (await api.post("/stats", json=spike)).status_code == 201
    return number


async def test_a_spike_among_many_readings_is_kept_and_found(page: Page, api: httpx.AsyncClient, dense: int) -> None:
    await show(page, api, dense)
    assert "every peak is kept" in await page.text(".plot .facts")
    await page.click(".plot summary")
    assert "2026-01-31 12:08:20.012345\t777" in await page.text(".points")
