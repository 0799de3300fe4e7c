"""Ten pages that are open for an hour do not grow: their memory, their nodes and their listeners.

SOAK_MINUTES is the length, by default 60. The second and the last quarter are compared: in the first one, a page fills
its window of live readings, and its code is compiled.
"""

import asyncio
import math
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime

import httpx
import pytest

from shared.settings import Settings
from tests import chromium, letters, services
from tests.browser import Browser, Page
from tests.roles import as_role

pytestmark = [chromium.needs_chromium]
MINUTES = float(os.environ.get("SOAK_MINUTES", "60"))
SAMPLES = 24
"""Looks at each page: six in each quarter."""
DEVICES = 3
EVERY_S = 0.2
"""Between two readings of a device."""
ANALYSES = 60
"""More than a page of them: a list that gets longer is no leak."""
PERIOD, LIVE = "from=now-1m&to=now", "/ui/live?window=1m&device=1"
SCREENS = (
    "/", f"/ui/devices/1?{PERIOD}", f"{LIVE}&device=2&device=3", f"{LIVE}&show=x",
    f"/ui/compare?device=1&device=2&device=3&{PERIOD}", "/ui/analyses", "/ui/schedules?schedule=1", "/ui/refused",
    "/ui/health", "/ui/keys",
)  # fmt: skip
Figures = Mapping[str, float]
SLACK: Figures = {"JSHeapUsedSize": 300_000, "Nodes": 100, "JSEventListeners": 20}
"""What a page may have more in the last quarter: compiled code (up to 110 KB after the second quarter of eight minutes)
and more intervals or rows. In an hour, a leak of 1 KB each time that a page is read is more than that."""


@pytest.mark.soak
async def test_open_pages_do_not_grow(api: httpx.AsyncClient, api_settings: Settings, running_browser: Browser) -> None:
    await _prepare(api, api_settings.database)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(services.worker(as_role(api_settings, "worker")))
        pages = {path: await stack.enter_async_context(running_browser.page()) for path in SCREENS}
        await stack.enter_async_context(_readings(api))
        for path, page in pages.items():
            await page.resize(1280, 900)
            await page.open(f"{api.base_url}{path}")
            await page.until("document.querySelector('h1')")
            await page.send("Performance.enable")
        found = {path: [await _figures(page)] for path, page in pages.items()}
        for _ in range(SAMPLES - 1):
            await asyncio.sleep(MINUTES * 60 / SAMPLES)
            for path, page in pages.items():
                found[path].append(await _figures(page))
        for page in pages.values():
            assert await page.run("document.hidden") is False
            assert page.faults == []
            page.has_ended = True
    report = "\n".join(_line(path, name, figures) for path, figures in found.items() for name in SLACK)
    print(report)  # noqa: T201  # pytest shows it with -s, and after a failure
    grown = [f"{path} {name}" for path, figures in found.items() for name in SLACK if _has_grown(figures, name)]
    assert grown == [], report


async def _prepare(api: httpx.AsyncClient, url: str) -> None:
    names = ("Boiler, north", "Pump 2", "Chiller")
    assert (await api.post("/devices", json=[{"name": name} for name in names])).status_code == 201
    schedule = {"device_id": 1, "cron": "0 0 1 1 *", "timezone": "UTC", "period": "PT5M"}
    assert (await api.post("/stats/analysis/schedules", json=schedule)).status_code == 201
    for _ in range(ANALYSES):
        assert (await api.post("/stats/analysis/1/async")).status_code == 202
    refused = (letters.letter(f"devices/{number}/stats", b"{}", received_at=datetime.now(UTC)) for number in range(60))
    await letters.keep(url, refused)


@asynccontextmanager
async def _readings(api: httpx.AsyncClient) -> AsyncIterator[None]:
    """Store a reading of each device every EVERY_S for the block."""

    async def store() -> None:
        number = 0
        while True:
            number += 1
            now = datetime.now(UTC).isoformat()
            readings = [
                {
                    "device_id": 1 + each,
                    "timestamp": now,
                    "x": math.sin(number / 30 + each),
                    "y": number % 100,
                    "z": each,
                }
                for each in range(DEVICES)
            ]
            (await api.post("/stats", json=readings)).raise_for_status()
            await asyncio.sleep(EVERY_S)

    async with asyncio.TaskGroup() as tasks:  # an error of the readings fails the block
        task = tasks.create_task(store(), name="readings")
        yield
        task.cancel()


async def _figures(page: Page) -> Figures:
    """Return the figures of the page after a garbage collection."""
    for _ in range(2):  # the second one collects what finalizers have released
        await page.send("HeapProfiler.collectGarbage")
    metrics = (await page.send("Performance.getMetrics"))["metrics"]
    return {metric["name"]: metric["value"] for metric in metrics if metric["name"] in SLACK}


def _quarters(figures: Sequence[Figures], name: str) -> tuple[float, float]:
    """Return the least of the second and of the last quarter. Others include what is about to be released."""
    values, quarter = [each[name] for each in figures], len(figures) // 4
    return min(values[quarter : 2 * quarter]), min(values[-quarter:])


def _has_grown(figures: Sequence[Figures], name: str) -> bool:
    second, last = _quarters(figures, name)
    return last > second + SLACK[name]


def _line(path: str, name: str, figures: Sequence[Figures]) -> str:
    second, last = _quarters(figures, name)
    every = " ".join(
        f"{each[name] / 1000:.0f}" if name == "JSHeapUsedSize" else f"{each[name]:.0f}" for each in figures
    )
    return f"{path} {name}: {second:,.0f} in the second quarter, {last:,.0f} in the last one ({every})"
