"""What the tests of the screen Live use: readings of now, and the lines that are drawn."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

import httpx

from tests.browser import Page
from tests.waiting import eventually

OPEN = "document.querySelector('.live-state .on') && document.querySelector('time-plot canvas')"
"""The stream is open, and something is drawn."""


async def store(api: httpx.AsyncClient, device: int, values: Iterable[float], ago: float = 0) -> None:
    """Store a reading of x for each value, a millisecond apart; the first one this many seconds ago."""
    first = datetime.now(UTC) - timedelta(seconds=ago)
    readings = [
        {"device_id": device, "timestamp": (first + timedelta(milliseconds=at)).isoformat(), "x": x, "y": 0, "z": -x}
        for at, x in enumerate(values)
    ]
    answer = await api.post("/stats", json=readings)
    assert answer.status_code == 201, answer.text


async def drawn(page: Page, line: int = 0) -> list[float]:
    """Return the values of a line, in the order of time."""
    found: list[float] = await page.run(
        f"document.querySelector('time-plot')?.content?.lines[{line}]?.values.filter(value => value !== null) ?? []"
    )
    return found


async def until_drawn(page: Page, values: Iterable[float], line: int = 0) -> None:
    """Wait until a line has these values in the order of time, each as often as here."""
    wanted = [float(value) for value in values]

    async def look() -> list[float]:
        return await drawn(page, line)

    await eventually(look, lambda found: found == wanted)


async def set_hidden(page: Page, *, hidden: bool) -> None:
    """Hide the tab, or show it, as the page sees it."""
    await page.run(
        f"Object.defineProperty(document, 'hidden', {{value: {str(hidden).lower()}, configurable: true}});"
        "document.dispatchEvent(new Event('visibilitychange'))"
    )


def streams(page: Page) -> list[str]:
    """Return the addresses of the streams that the page has opened."""
    return [url for url in page.asked if "/stats/live?" in url]


def histories(page: Page) -> list[str]:
    """Return the addresses of the histories that the page has requested."""
    return [url for url in page.asked if "/series?" in url]
