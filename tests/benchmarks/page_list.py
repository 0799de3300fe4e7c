"""A thousand devices in the list of the dashboard, in Chromium: the first drawing, and the longest tasks.

A task of more than 50 ms is one during which the page does not respond (https://www.w3.org/TR/longtasks-1/). The
browser reports only these, so 0 ms means that none was longer.
"""

import asyncio
import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime, timedelta
from functools import partial

import httpx
import psycopg

from deploy.local.postgres import EmbeddedPostgres
from shared.postgres.connections import connect
from shared.postgres.migrate import migrate
from shared.postgres.roles import set_up
from tests.benchmarks.http import serving
from tests.benchmarks.pairs import PAIRS, Finding, Ratio, target
from tests.browser import Page
from tests.command import argv
from tests.ports import free_port
from tests.roles import let_roles_in
from tests.waiting import eventually

DATABASE = "bench_page_list"
DEVICES = 1000
READINGS, APART = 60, timedelta(seconds=50)
"""Of each device, so that each has a small plot of the last hour."""
FIRST_MS, TASK_MS = 500, 50
_LIST = "/?limit=1000&order=name"
_ROWS = "document.querySelectorAll('.devices tbody tr')"
_SETTLED = "document.querySelector('[aria-busy=true], .loading') === null"
# A link that the page follows like its own, and the milliseconds from its click to the frame after the first rows.
_FOLLOW = f"""
    new Promise(resolve => {{
        const link = Object.assign(document.createElement("a"), {{ href: {json.dumps(_LIST)} }});
        document.querySelector("main").append(link);
        const began = performance.now();
        link.click();
        link.remove();
        const look = () => {_ROWS}.length ? requestAnimationFrame(() => resolve(performance.now() - began))
            : requestAnimationFrame(look);
        requestAnimationFrame(look);
    }})
"""
_WATCH = """
    let longTasks = [0];
    const noted = entries => longTasks.push(...entries.map(task => task.duration));
    const observer = new PerformanceObserver(list => noted(list.getEntries()));
    observer.observe({ type: "longtask" });
    function longest() {
        noted(observer.takeRecords());
        const found = Math.max(...longTasks);
        longTasks = [0];
        return found;
    }
"""
# Through the whole list, a third of the window in each frame, and back to its middle.
_SCROLL = """
    (async () => {
        const frame = () => new Promise(requestAnimationFrame);
        for (let top = 0; top < document.documentElement.scrollHeight; top += innerHeight / 3) {
            scrollTo(0, top);
            await frame();
        }
        scrollTo(0, document.documentElement.scrollHeight / 2);
    })()
"""
_PLOTTED = f"[...{_ROWS}].some(row => row.querySelector('.sparkline') && row.getBoundingClientRect().top > 0)"


_Open = Callable[[], AbstractAsyncContextManager[Page]]


def measure(postgres: EmbeddedPostgres, open_page: _Open) -> Iterator[Finding]:
    """Measure milliseconds in the browser."""
    with psycopg.connect(postgres.url_of("postgres"), autocommit=True) as server:
        server.execute(f"CREATE DATABASE {DATABASE}".encode())
        url, port, metrics = postgres.url_of(DATABASE), free_port(), free_port()
        asyncio.run(_migrate(url))
        let_roles_in(url)
        settings = {"database_url": url, "log_level": "warning"}
        with (
            serving(port, argv("serve"), "/health/ready", http_port=port, **settings),
            serving(metrics, argv("work"), "/metrics", worker_metrics_port=metrics, **settings),
        ):
            yield from asyncio.run(_list(f"http://127.0.0.1:{port}", open_page))
        server.execute(f"DROP DATABASE {DATABASE} WITH (FORCE)".encode())


async def _migrate(url: str) -> None:
    async with await connect(url, "bench") as connection:
        await migrate(connection)
        await set_up(connection)


async def _list(origin: str, open_page: _Open) -> list[Finding]:
    firsts, drawing, scrolling, refreshing = [], [], [], []
    async with httpx.AsyncClient(base_url=origin, timeout=60) as api:
        devices = await _prepare(api)
        for number in range(PAIRS):
            async with open_page() as page:
                await page.open(f"{origin}/ui/health")
                await page.until(f"document.querySelector('main h1') && {_SETTLED}")
                await page.run(_WATCH)
                firsts.append(float(await page.run(_FOLLOW)))
                await page.until(f"{_ROWS}.length === {DEVICES} && {_SETTLED} && {_PLOTTED}")
                drawing.append(float(await page.run("longest()")))
                await page.run(_SCROLL)
                await page.until(f"{_SETTLED} && {_PLOTTED}")
                scrolling.append(float(await page.run("longest()")))
                await _store(api, devices, datetime.now(UTC), x=100 + number)
                await page.run("document.activeElement?.blur()")
                await page.key("r", "r")
                await page.until(f"[...{_ROWS}].every(row => row.cells[6].innerText === '{100 + number}')")
                refreshing.append(float(await page.run("longest()")))
    limit, tasks = f"{FIRST_MS} ms", f"{TASK_MS} ms"
    return [
        Ratio(f"page: click on the list of {DEVICES:,} devices to its first rows", limit, "ms", firsts,
              target(FIRST_MS), "<= 1"),
        Ratio("- longest task until all rows are drawn", tasks, "ms", drawing, target(TASK_MS), "<= 1"),
        Ratio("- longest task while scrolling through all", tasks, "ms", scrolling, target(TASK_MS), "<= 1"),
        Ratio("- longest task while all rows change", tasks, "ms", refreshing, target(TASK_MS), "<= 1"),
    ]  # fmt: skip


async def _prepare(api: httpx.AsyncClient) -> list[int]:
    """Return the ids of devices with readings, whose states the worker has found."""
    made = await api.post("/devices", json=[{"name": f"Pump {number:04}"} for number in range(DEVICES)])
    devices = [device["id"] for device in made.raise_for_status().json()]
    now = datetime.now(UTC)
    for number in range(READINGS):
        await _store(api, devices, now - (READINGS - number) * APART, x=number % 10)
    await eventually(partial(_never, api), lambda never: never == 0)
    return devices


async def _never(api: httpx.AsyncClient) -> int:
    """Return the number of devices of which the worker has not found readings."""
    return int((await api.get("/devices/states")).json()["never"])


async def _store(api: httpx.AsyncClient, devices: Iterable[int], at: datetime, x: float) -> None:
    readings = [{"device_id": each, "timestamp": at.isoformat(), "x": x, "y": each % 7, "z": 1.5} for each in devices]
    (await api.post("/stats", json=readings)).raise_for_status()
