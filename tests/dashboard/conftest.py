"""The fixtures of the API, a browser, and devices with readings."""

import math
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from shared.settings import Settings
from tests import services
from tests.browser import Browser, Page
from tests.integration.conftest import api, api_settings, device, tuning

__all__ = ["api", "api_settings", "device", "tuning"]
START = datetime(2026, 1, 31, 12, tzinfo=UTC)
"""The first reading of `waves`."""


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Function) -> Iterator[None]:
    """Tell the page that the test has ended: its requests fail while the services stop."""
    try:
        yield
    finally:
        tab = item.funcargs.get("page")
        if isinstance(tab, Page):
            tab.has_ended = True


@pytest.fixture
async def page(running_browser: Browser) -> AsyncIterator[Page]:
    """A tab with a profile of its own. After the test it has no violations of the page's policy, and no exceptions.

    Nor has any request failed but those that the test expects: `page.expect(404, "/devices/7")`.
    """
    async with running_browser.page() as tab:
        await tab.resize(1280, 900)
        yield tab
        assert await tab.violations() == []
        assert tab.unexpected == []
        assert len(tab.hosts) <= 1


@asynccontextmanager
async def shown(page: Page, settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    """A client of an API for the block. The page then leaves it: requests fail once the API ends."""
    async with services.api(settings) as client:
        yield client
        await page.open("about:blank")


@pytest.fixture
async def waves(api: httpx.AsyncClient) -> int:
    """The id of a device with a reading a second for 20 minutes from START, without those of minutes 8 to 12."""
    answer = await api.post("/devices", json={"name": "Waves", "key": "waves"})
    number: int = answer.json()["id"]
    await store(api, number, (second for second in range(1200) if not 480 <= second < 720))
    return number


async def store(api: httpx.AsyncClient, device: int, seconds: Iterable[float], start: datetime = START) -> None:
    """Store a reading for each of the seconds after the start."""
    readings = [
        {
            "device_id": device, "timestamp": (start + timedelta(seconds=second)).isoformat(),
            "x": round(10 * math.sin(second / 60), 3), "y": round(second / 100, 3), "z": -5,
        }
        for second in seconds
    ]  # fmt: skip
    for at in range(0, len(readings), 10_000):
        assert (await api.post("/stats", json=readings[at : at + 10_000])).status_code == 201
