"""`make picture`: writes docs/dashboard.png, a day of a simulated device in the dashboard, for the README."""

import asyncio
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import httpx
import msgspec
import structlog

from deploy.local.postgres import EmbeddedPostgres
from deploy.simulate.waveform import DAY_S, sample
from shared.postgres.connections import connect
from shared.postgres.migrate import migrate
from shared.postgres.roles import set_up
from shared.settings import Settings
from tests.browser import browser
from tests.ports import free_port
from tests.roles import let_roles_in, make_roles
from tests.services import api

TARGET = Path(__file__).parents[2] / "docs" / "dashboard.png"
DAY = datetime(2026, 1, 30, tzinfo=UTC)
STEP_S = 10
SIZE = (1280, 860)


async def _prepare(url: str) -> None:
    await make_roles(url)
    async with await connect(url, "picture") as connection:
        await migrate(connection)
        await set_up(connection)


async def _store(client: httpx.AsyncClient) -> int:
    """Register a device, store a day of readings, and return its id."""
    device: int = (await client.post("/devices", json={"name": "Simulated device 1", "key": "sim-1"})).json()["id"]
    moments = (DAY.timestamp() + second for second in range(0, int(DAY_S), STEP_S))
    readings = [
        {"device_id": device, "timestamp": moment, **msgspec.structs.asdict(sample(1, 1, moment))}
        for moment in moments
    ]  # fmt: skip
    (await client.post("/stats", json=readings)).raise_for_status()
    return device


async def _draw(url: str) -> None:
    async with api(Settings(database_url=url, http_port=free_port())) as client:
        device = await _store(client)
        with tempfile.TemporaryDirectory() as profile, browser(Path(profile)) as running:
            async with running.page() as page:
                await page.resize(*SIZE)
                await page.open(f"{client.base_url}/ui/devices/{device}?from={DAY:%Y-%m-%d}&to={DAY:%Y-%m-%d}&tz=UTC")
                await page.until("document.querySelector('time-plot canvas') && document.querySelector('.histogram')")
                await page.until("document.querySelector('[aria-busy=true], .loading') === null")
                await page.screenshot(TARGET)


def main() -> None:
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    with tempfile.TemporaryDirectory() as directory, EmbeddedPostgres(Path(directory)) as postgres:
        asyncio.run(_prepare(postgres.url))
        let_roles_in(postgres.url)
        asyncio.run(_draw(postgres.url))


if __name__ == "__main__":
    main()
