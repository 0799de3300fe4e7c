"""Runs the benchmarks and prints one table, with the machine and the versions it is true for."""

import asyncio
import os
import platform
import subprocess
import tempfile
from pathlib import Path

import psycopg
from rich.console import Console
from rich.table import Table

from deploy.mosquitto import executable
from deploy.postgres import EmbeddedPostgres
from shared.database import connect
from shared.migrate import migrate
from tests.benchmarks import analysis, delay, ingestion

WIDTH = 120


async def _migrate(url: str) -> None:
    async with await connect(url, "bench") as connection:
        await migrate(connection)


def _where(postgres: EmbeddedPostgres) -> str:
    with psycopg.connect(postgres.url) as connection:
        server = connection.info.server_version // 10_000
    said = subprocess.run([executable(), "-h"], capture_output=True, text=True, check=False).stdout
    broker = said.splitlines()[0].removeprefix("mosquitto version ")
    return (
        f"{os.cpu_count()} cores, {platform.machine()}; Python {platform.python_version()}, "
        f"PostgreSQL {server}, Mosquitto {broker}"
    )


def main() -> None:
    console = Console(width=WIDTH)
    shown = Table("what", "ours", "peer", "ratio: median (spread)", box=None)
    with tempfile.TemporaryDirectory(prefix="ds") as directory, EmbeddedPostgres(Path(directory)) as postgres:
        asyncio.run(_migrate(postgres.url))
        console.print(_where(postgres))
        for measure in (ingestion.measure, delay.measure, analysis.measure):
            for ratio in measure(postgres):
                shown.add_row(*ratio.row())
    console.print(shown)
    console.print(f"the generator alone: {ingestion.ceiling():,.0f} messages/s")


main()
