"""The dashboard in Chromium: from a click to the picture, with ten million sealed readings of one device (ADR 46).

`page_list` has the list of devices.

A picture is there when the plot has the readings of the period, the frame after it has been drawn, and nothing is
being read for it.
"""

import asyncio
import json
import tempfile
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import psycopg

from deploy.local.postgres import EmbeddedPostgres
from tests.benchmarks import page_list, sealed
from tests.benchmarks.http import serving
from tests.benchmarks.pairs import PAIRS, Finding, Ratio, rounded, target
from tests.benchmarks.sealed import BEGINS, DEVICE, READINGS, UNSEALED, YEAR
from tests.browser import Page, browser
from tests.command import argv
from tests.ports import free_port
from tests.roles import let_roles_in

DATABASE = "bench_page"
WINDOW = (1280, 900)
PICTURE_MS, ZOOM_MS = 500, 150
_Measured = Callable[[], Coroutine[None, None, float]]
_WHOLE = f"/ui/devices/{DEVICE}?from={BEGINS:%Y-%m-%d}&to={BEGINS + YEAR:%Y-%m-%d}&tz=UTC"
_LATEST = f"/ui/devices/{DEVICE}?tz=UTC"
# A link that the page follows like its own, and the milliseconds from its click to the picture.
_FOLLOW = """
    new Promise(resolve => {
        const link = Object.assign(document.createElement("a"), { href: %s });
        document.querySelector("main").append(link);
        const began = performance.now();
        link.click();
        link.remove();
        const look = () => isDrawn() ? requestAnimationFrame(() => resolve(performance.now() - began))
            : requestAnimationFrame(look);
        requestAnimationFrame(look);
    })
"""
_IS_DRAWN = """
    let drawn;
    function isDrawn() {
        const plot = document.querySelector("time-plot");
        if (!plot?.querySelector("canvas") || !plot.content || plot.content === drawn) return false;
        if (document.querySelector(".plot[aria-busy=true]")) return false;
        drawn = plot.content;
        return true;
    }
"""
# The end of a drag is the last event of the pointer, not the answer of the browser's protocol.
_AWAIT_ZOOM = """
    drawn = document.querySelector("time-plot").content;
    void (window.zoomed = new Promise(resolve => addEventListener("mouseup", () => {
        const began = performance.now();
        const look = () => isDrawn() ? requestAnimationFrame(() => resolve(performance.now() - began))
            : requestAnimationFrame(look);
        requestAnimationFrame(look);
    }, { once: true, capture: true })));
"""


def measure(postgres: EmbeddedPostgres) -> Iterator[Finding]:
    """Measure milliseconds in the browser."""
    with psycopg.connect(postgres.url_of("postgres"), autocommit=True) as server:
        server.execute(f"CREATE DATABASE {DATABASE}".encode())
        url, data = postgres.url_of(DATABASE), sealed.readings()
        asyncio.run(sealed.store(url, {DEVICE: data}))
        sealed.seal(url, DEVICE, int(data["t"].iloc[-UNSEALED]))
        let_roles_in(url)
        port = free_port()
        with serving(port, argv("serve"), "/health/ready", database_url=url, http_port=port, log_level="warning"):
            yield from asyncio.run(_pictures(f"http://127.0.0.1:{port}"))
        server.execute(f"DROP DATABASE {DATABASE} WITH (FORCE)".encode())
    yield from page_list.measure(postgres, _open)


@asynccontextmanager
async def _open() -> AsyncIterator[Page]:
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile, browser(Path(profile)) as running:
        async with running.page() as page:
            await page.send("Page.addScriptToEvaluateOnNewDocument", source=_IS_DRAWN)
            await page.resize(*WINDOW)
            yield page


async def _pictures(origin: str) -> list[Finding]:
    async with _open() as page:
        await page.open(origin)
        await page.until("document.querySelector('.devices tbody tr')")
        latest = await _times(lambda: _followed(page, _LATEST), lambda: _back(page))
        whole = await _times(lambda: _followed(page, _WHOLE), lambda: _back(page))
        await _followed(page, _WHOLE)
        zooms = [await _zoomed(page) for _ in range(PAIRS)]
        files = [size for url, size in page.sizes.items() if "/assets/" in url]
    readings = f"{READINGS:,} readings"
    return [
        Ratio(f"page: click on a device of {readings} to its picture", f"{PICTURE_MS} ms", "ms", latest,
              target(PICTURE_MS), "<= 1"),
        Ratio(f"- to the picture of all {readings}", f"{PICTURE_MS} ms", "ms", whole, target(PICTURE_MS), "<= 1"),
        Ratio("- from the end of a drag to the picture of half of the period", f"{ZOOM_MS} ms", "ms", zooms,
              target(ZOOM_MS), "<= 1"),
        f"The list and a device transfer {rounded(sum(files) / 1000)} KB of code in {len(files)} files, with headers.",
    ]  # fmt: skip


async def _times(measured: _Measured, between: Callable[[], Coroutine[None, None, None]]) -> list[float]:
    """Measure once without recording, then as often as the others."""
    found = []
    for _ in range(PAIRS + 1):
        found.append(await measured())
        await between()
    return found[1:]


async def _followed(page: Page, address: str) -> float:
    return float(await page.run(_FOLLOW % json.dumps(address)))


async def _back(page: Page) -> None:
    """Return to the list, with nothing that is still being read."""
    await page.until("document.querySelector('[aria-busy=true], .loading') === null")
    await page.run("history.pushState(null, '', '/'), dispatchEvent(new PopStateEvent('popstate'))")
    await page.until("document.querySelector('.devices tbody tr') && document.querySelector('time-plot') === null")


async def _zoomed(page: Page) -> float:
    """Zoom into the half of the period around its middle."""
    await page.until("document.querySelector('[aria-busy=true], .loading') === null")
    await page.run(_AWAIT_ZOOM)
    await page.drag("time-plot .u-over", 0.25, 0.75)
    return float(await page.run("zoomed"))
